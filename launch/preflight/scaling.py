"""The table of pods that the training step was compiled for, for the README.

    python -m launch.scaling                         # all rows, hours of compiling for TPUs
    python -m launch.scaling --stages-only           # first and last stage only
    python -m launch.scaling --rows v5e h100 --out runs/scaling

Each row is one `python -m launch.aot_compile` in a process of its own, one after another. Its
figures are kept in a file of --out; started again, only what is missing is compiled. With
--stages-only the rows whose whole step was compiled before stay as they are.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One check: a configuration and a pod; mesh: another use of it than the configuration's."""

    config: str
    topology: str
    mesh: str | None = None
    frames: int = 1024

    def arguments(self) -> list[str]:
        """Of `launch.aot_compile`."""
        return [
            *("--config", f"configs/{self.config}.py", "--topology", self.topology),
            *("--frames", str(self.frames)),
            *(() if self.mesh is None else ("--mesh", self.mesh)),
        ]


# 32 examples a step as published. The configurations let several devices share a video where there
# are more devices than that; a video of 4,096 frames is shared by more than they would.
ROWS = {
    "v5e": Row(config="xcomp_2b", topology="v5e:4x4"),
    "v5p": Row(config="xcomp_2b", topology="v5p:4x4x4"),
    "v6e": Row(config="xcomp_2b", topology="v6e:16x16"),
    "h100": Row(config="xcomp_2b", topology="h100:8"),
    "v5p_4096": Row(config="xcomp_2b", topology="v5p:4x4x4", mesh="fsdp=16,context=4", frames=4096),
    "v5p_7b": Row(config="xcomp_7b", topology="v5p:4x4x4"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compiles what is missing and prints the table; 1 if some row could not be compiled."""
    options = _parser().parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = {}
    for name in tqdm(options.rows, desc="compiling", unit="row"):
        whole, quick = (
            options.out / f"{name}_{kind}{'_encoded' * options.encoded}.json"
            for kind in ("whole", "stages")
        )
        path = quick if options.stages_only and not whole.exists() else whole
        if not path.exists():
            command = [sys.executable, "-m", "xcomp_jax.launch.preflight", *ROWS[name].arguments()]
            command += ["--json", str(path)] + ["--stages-only"] * options.stages_only
            command += ["--encoded"] * options.encoded
            subprocess.run(command, check=False)
        if path.exists():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
    print(table(found))
    return 0 if len(found) == len(options.rows) else 1


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown, a line for each row."""
    lines = [
        "| model, frames | devices | mesh | micro batches | GiB of a device | fits | PFLOP a step "
        "| sent by a device | step floor, bound by | compiled | in |",
        "|" + "---|" * 11,
    ]
    lines += [_line(made) for made in found.values()]
    return "\n".join(lines)


def _line(made: dict[str, Any]) -> str:
    step, spent = made["programs"][0], made["spent"]
    memory, capacity = step["memory"], step["capacity_bytes"] / GIB
    whole, least = "first and last" not in step["program"], step["least_bytes"]
    needed = f"{memory['needed'] / GIB:.1f}" if memory else f"over {capacity:.1f}"
    if least is not None:
        pressed = f"at least {least / GIB:.1f}"
        needed = f"{needed}, {pressed}," if whole else pressed
    bounds = {"arithmetic": "compute_s", "memory": "memory_s", "links": "links_s"}
    bound = max(bounds, key=lambda name: step[bounds[name]])
    cells = [
        f"{made['config']}, {made['frames']:,}",
        made["topology"],
        ", ".join(f"{axis} {n}" for axis, n in made["mesh"].items() if n > 1),
        str(made["micro batches"]),
        f"{needed} of {capacity:.1f}",
        "yes" if step["fits"] else "no",
        f"{(step['flops'] + step['recomputed']) / 1e15:.1f}",
        "unknown" if step["unread"] else f"{sum(step['sent_bytes'].values()) / 1e9:,.0f} GB",
        f"{step['floor_s']:.2f} s, {bound}",
        "whole step" if whole else "two stages",
        f"{spent['cpu_s'] / 60:.1f} CPU min, {spent['peak_gib']:.1f} GiB",
    ]
    return f"| {' | '.join(cells)} |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m launch.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=list(ROWS))
    parser.add_argument("--stages-only", action="store_true", help="the quick form")
    parser.add_argument("--encoded", action="store_true", help="batches from a token store")
    parser.add_argument("--out", type=Path, default=Path("runs/scaling"), help="(%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
