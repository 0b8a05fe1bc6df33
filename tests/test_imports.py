"""Tests that packages import only from lower packages, without cycles.

The order is that of docs/architecture.md. Imports under TYPE_CHECKING and inside functions count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).parents[1]

LEVELS = (
    *(
        "entry points",
        "cli",
        "launch",
        "serving",
        "evaluation",
        "training",
        "pretrained",
        "inference",
        "convert",
        "engine",
        "selection",
    ),
    *("experiment", "data", "evidence", "checkpoint", "models", "compression", "ops"),
    *("token_store", "video", "text", "sharding", "processes", "rendezvous"),
    *("variants", "peaks", "config"),
    *("interruption", "account", "checksums", "full_disk", "files", "shapes", "terminal", "demo"),
)
"""Packages and top-level modules from top to bottom; each may import itself and later ones."""

LEVEL_ALIASES = {"flops": "selection", "configs": "experiment"}
"""Modules that have the level of another package."""

ENTRY_POINTS = ("__main__", "bench_roundtrip")
"""Names of modules that only start a command, like the modules directly in launch/."""

LAUNCH_PACKAGES = {
    f"xcomp_jax.launch.{name}" for name in ("bench", "clusters", "preflight", "studies")
}


def module_files() -> dict[str, Path]:
    """Returns the file of every module by name; follows links to top-level folders."""
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


def level_of(module: str) -> str:
    _, *parts = module.split(".")
    if not parts:
        return ""
    is_old_spelling = parts[0] == "launch" and len(parts) == 2 and module not in LAUNCH_PACKAGES
    if parts[-1] in ENTRY_POINTS or is_old_spelling:
        return "entry points"
    return LEVEL_ALIASES.get(parts[0], parts[0])


def upward_imports(graph: dict[str, set[str]]) -> list[str]:
    """Lists the imports of an upper level by a lower one."""
    order = {level: i for i, level in enumerate(LEVELS)}
    return [
        f"{module} -> {target}"
        for module, targets in sorted(graph.items())
        for target in sorted(targets)
        if level_of(module)
        and level_of(target)
        and order[level_of(target)] < order[level_of(module)]
    ]


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Finds import cycles by depth-first search; each is reported once."""
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
    # xcomp_jax/__init__.py imports its exports for type checkers only.
    return {
        module: set()
        if module == "xcomp_jax"
        else {target for target in imported_modules(path, files) if target != module}
        for module, path in files.items()
    }


def test_imports_run_downwards_without_cycles() -> None:
    graph = import_graph()
    unknown = {level_of(module) for module in graph} - {"", *LEVELS}
    assert not unknown, f"packages without a level: {unknown}"
    upward, loops = upward_imports(graph), cycles(graph)
    print(
        f"{len(graph)} modules, {sum(map(len, graph.values()))} imports, {len(upward)} upward, "
        f"{len(loops)} cycles"
    )
    assert not upward, "\n".join(upward)
    assert not loops, "\n".join(" -> ".join(loop) for loop in loops)


def test_upward_import_and_cycle_are_found() -> None:
    graph = {
        "xcomp_jax.ops.rope": {"xcomp_jax.models.qwen2"},
        "xcomp_jax.models.qwen2": {"xcomp_jax.ops.rope"},
    }
    assert upward_imports(graph) == ["xcomp_jax.ops.rope -> xcomp_jax.models.qwen2"]
    assert cycles(graph) == [
        ["xcomp_jax.models.qwen2", "xcomp_jax.ops.rope", "xcomp_jax.models.qwen2"]
    ]


def test_inference_compiles_in_engine_only() -> None:
    files = module_files()
    jitting = {
        module
        for module, path in files.items()
        if "jax.jit" in path.read_text(encoding="utf-8")
        and level_of(module) in ("cli", "pretrained", "inference", "convert", "selection", "data")
    }
    # The slow definition is compiled by itself; the plan only mentions the word.
    assert jitting == {"xcomp_jax.selection.reference", "xcomp_jax.selection.plan"}
