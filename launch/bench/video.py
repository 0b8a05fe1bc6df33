"""Compare reading frames of video files in spans with one pass, decord and PyAV, in one run."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xcomp_jax.launch.bench import video_peer, video_scaling
from xcomp_jax.launch.bench.results import table
from xcomp_jax.video.decoders import available_cores

POLL_SECONDS = 0.05

OURS = "xcomp_jax.launch.bench.video_reader"


def run(options: argparse.Namespace) -> int:
    """Prints one Markdown table per question: readers, or scaling with `--scaling`."""
    for path in options.videos:
        if not path.exists():
            raise ValueError(f"{path}: no such file; check the path")
    workers = options.workers or [available_cores()]
    if len(workers) > 1 and not options.scaling:
        raise ValueError("--workers takes several numbers only with --scaling")
    if options.scaling:
        rows = [
            row
            for path in options.videos
            for count in options.frames
            for row in video_scaling.measure(path, count, options.size, workers)
        ]
    else:
        rows = [
            row
            for path in options.videos
            for count in options.frames
            for row in _compared(path, count, options, workers[0])
        ]
    print(table(rows))
    return 0


def _compared(
    path: Path, count: int, options: argparse.Namespace, workers: int
) -> Iterator[dict[str, Any]]:
    """Yields a row per reader, each with its shortest run; readers take turns."""
    commands = _commands(path, count, options, workers)
    best: dict[str, dict[str, Any]] = {}
    for _ in range(options.rounds):
        for name, command in commands.items():
            try:
                result = _measured(command)
            except ValueError as error:
                if name not in video_peer.READERS:
                    raise
                print(f"xcomp bench: {name} left out: {error}", file=sys.stderr)
                continue
            if name not in best or result["seconds"] < best[name]["seconds"]:
                best[name] = result
    checksums = {str(result["checksum"]) for result in best.values() if "checksum" in result}
    if len(checksums) > 1:
        raise ValueError(f"{path}: spans and one pass read different frames: {sorted(checksums)}")
    ours = best["spans"]
    for name, result in best.items():
        yield {
            "video": path.name,
            "frames": result["frames"],
            "reader": name,
            "seconds": round(result["seconds"], 2),
            "CPU seconds": round(result["cpu_seconds"], 2),
            "peak MB": round(result["peak_mb"]),
            "seconds / ours": round(result["seconds"] / ours["seconds"], 2),
            "CPU / ours": round(result["cpu_seconds"] / ours["cpu_seconds"], 2),
        }


def _commands(
    path: Path, count: int, options: argparse.Namespace, workers: int
) -> dict[str, list[str]]:
    shared = [str(path), str(count), str(options.size)]
    methods = ["spans"] if options.no_one_pass else ["spans", "one-pass"]
    commands = {
        method: [sys.executable, "-m", OURS, method, *shared, str(workers)] for method in methods
    }
    for peer in options.peer or ():
        commands[peer] = [str(options.peer_python), video_peer.__file__, peer, *shared]
    return commands


def _measured(command: Sequence[str]) -> dict[str, Any]:
    """Runs a reader; adds the peak memory of the process and its children in MB."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, _tree_memory(process.pid))
        time.sleep(POLL_SECONDS)
    output, messages = process.communicate()
    if process.returncode:
        raise ValueError(f"{' '.join(command)} failed: {messages[-500:]}")
    return {**json.loads(output.splitlines()[-1]), "peak_mb": peak / 1e6}


def _tree_memory(root: int) -> int:
    """Returns the resident bytes of a process and all its descendants."""
    parents, resident = {}, {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # It has ended.
            continue
        parents[int(folder.name)], resident[int(folder.name)] = int(fields[1]), int(fields[21])
    tree = {root}
    while more := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return sum(resident.get(process, 0) for process in tree) * 4096
