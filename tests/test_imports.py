"""Imports run in one direction: from the upper rooms of the house to the lower ones.

The order is docs/architecture.md's. Imports under TYPE_CHECKING and inside functions count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).parents[1]

ROOMS = (
    *(
        "doors",
        "cli",
        "launch",
        "training",
        "pretrained",
        "inference",
        "convert",
        "engine",
        "selection",
    ),
    *("experiment", "data", "evidence", "checkpoint", "models", "compression", "ops"),
    *("token_store", "video", "text", "sharding", "processes", "variants", "peaks", "config"),
    *("account", "files", "shapes"),
)
"""From top to bottom. A room may import itself and every room behind it."""

PLACED = {"flops": "selection", "configs": "experiment"}
"""Modules that belong to the level of a room."""

DOORS = ("__main__", "bench_roundtrip")
"""Names of modules that only start a command; so do the modules directly below launch/."""


PACKAGES = {f"xcomp_jax.launch.{name}" for name in ("bench", "clusters", "preflight", "studies")}


def module_files() -> dict[str, Path]:
    """Returns every module of the package by name; links to top-level folders are followed."""
    folders = {"xcomp_jax": REPO / "xcomp_jax"}
    folders |= {f"xcomp_jax.{name}": REPO / name for name in ("convert", "launch", "configs")}
    files = {}
    for package, folder in folders.items():
        for path in folder.rglob("*.py"):
            if any(parent.is_symlink() for parent in path.parents if parent != REPO):
                continue
            parts = path.relative_to(folder).with_suffix("").parts
            files[".".join((package, *parts)).removesuffix(".__init__")] = path
    return files


def imported_modules(path: Path, files: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in files:
                    yield name
                elif node.module in files:
                    yield node.module


def room_of(module: str) -> str:
    _, *parts = module.split(".")
    if not parts:
        return ""
    is_old_spelling = parts[0] == "launch" and len(parts) == 2 and module not in PACKAGES
    if parts[-1] in DOORS or is_old_spelling:
        return "doors"
    return PLACED.get(parts[0], parts[0])


def upward_arrows(graph: dict[str, set[str]]) -> list[str]:
    """Lists the imports that go from a lower room to an upper one."""
    level = {room: i for i, room in enumerate(ROOMS)}
    return [
        f"{module} -> {target}"
        for module, targets in sorted(graph.items())
        for target in sorted(targets)
        if room_of(module) and room_of(target) and level[room_of(target)] < level[room_of(module)]
    ]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Finds import circles by depth-first search; each is reported once."""
    found: list[list[str]] = []
    state: dict[str, int] = {}

    def visit(module: str, path: list[str]) -> None:
        state[module] = 1
        for target in sorted(graph[module]):
            if state.get(target) == 1:
                found.append([*path[path.index(target) :], target])
            elif target not in state:
                visit(target, [*path, target])
        state[module] = 2

    for module in sorted(graph):
        if module not in state:
            visit(module, [module])
    return found


def import_graph() -> dict[str, set[str]]:
    files = module_files()
    # The front door names its exports for type checkers; at run time it imports nothing.
    return {
        module: set()
        if module == "xcomp_jax"
        else {target for target in imported_modules(path, files) if target != module}
        for module, path in files.items()
    }


def test_imports_run_downwards() -> None:
    graph = import_graph()
    unplaced = {room_of(module) for module in graph} - {"", *ROOMS}
    assert not unplaced, f"rooms without a level: {unplaced}"
    arrows, loops = upward_arrows(graph), circles(graph)
    print(
        f"{len(graph)} modules, {sum(map(len, graph.values()))} imports, {len(arrows)} upward, "
        f"{len(loops)} circles"
    )
    assert not arrows, "\n".join(arrows)
    assert not loops, "\n".join(" -> ".join(loop) for loop in loops)


def test_wrong_arrows_are_found() -> None:
    graph = {
        "xcomp_jax.ops.rope": {"xcomp_jax.models.qwen2"},
        "xcomp_jax.models.qwen2": {"xcomp_jax.ops.rope"},
    }
    assert upward_arrows(graph) == ["xcomp_jax.ops.rope -> xcomp_jax.models.qwen2"]
    assert circles(graph) == [
        ["xcomp_jax.models.qwen2", "xcomp_jax.ops.rope", "xcomp_jax.models.qwen2"]
    ]
