"""The interrupted commands: how each is started, and what its results are."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from xcomp_jax.checkpoint import load_params
from xcomp_jax.token_store import TokenStore

CONFIG = '''"""Defines a tiny experiment of two stages for the study of interruptions."""

import dataclasses

from xcomp_jax.experiment import CONFIGS, load_experiment
from xcomp_jax.config import to_dict


def get_config():
    """Returns the smoke experiment with a smaller model, few videos and few steps."""
    smoke = load_experiment(CONFIGS / "smoke.py")
    model = dataclasses.replace(
        smoke.model,
        # Sizes that a PyTorch checkpoint can have.
        vision=dataclasses.replace(
            smoke.model.vision, image_size=64, patch_size=16, mlp_ratio=4.0, width=16, depth=2
        ),
        llm=dataclasses.replace(
            smoke.model.llm, hidden_size=16, intermediate_size=16, num_hidden_layers=3
        ),
    )
    base, tuned = smoke.stages
    tuned_compression = dataclasses.replace(tuned.compression, max_distinct_lengths=2)
    stages = (
        dataclasses.replace(base, num_steps=4, batch_size=4),
        dataclasses.replace(tuned, num_steps=4, batch_size=4, compression=tuned_compression),
    )
    data = dataclasses.replace(smoke.data, num_train_videos=6, num_eval_videos=4)
    return to_dict(
        dataclasses.replace(
            smoke, model=model, data=data, stages=stages, save_every_steps=2, eval_batch_size=8
        )
    )
'''

QUESTIONS = ("What color is the moving shape?", "Which color flashes?")
UNCOMPARED = (".xcomp_jax.json", "_CHECKPOINT_METADATA", "commit_success.txt")
"""Files of a checkpoint that hold the time of writing or the folder's temporary name."""

SELECTION = (
    *("--frames", "16", "--select", "8"),
    *("--layers", "1:3", "--segment", "1", "--stride", "1"),
)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Files that all runs read: an experiment, its finished run, and a PyTorch checkpoint."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "experiment.py"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def checkpoint(self) -> Path:
        return self.run / "checkpoint"

    @property
    def torch_checkpoint(self) -> Path:
        return self.folder / "torch"

    @property
    def videos(self) -> list[Path]:
        return sorted(self.run.glob("data/**/*.mp4"))[:4]


@dataclasses.dataclass(frozen=True)
class Workload:
    """One command.

    Attributes:
        arguments: of `xcomp`, for inputs and the folder that receives all output.
        results: values by name that must be equal however often the command was interrupted.
        progress: amount of finished work in the folder; a kill never lowers it.
        is_complete: whether all output is there.
    """

    name: str
    arguments: Callable[[Inputs, Path], list[str]]
    results: Callable[[Path], Mapping[str, Any]]
    progress: Callable[[Path], int]
    is_complete: Callable[[Path], bool]


def _tune_arguments(inputs: Inputs, folder: Path) -> list[str]:
    return ["tune", "--config", str(inputs.config), "--workdir", str(folder / "run"), "--quiet"]


def _tune_results(folder: Path) -> dict[str, Any]:
    workdir = folder / "run"
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    _, params = load_params(workdir / "checkpoint")
    return {
        "losses": [(line["stage"], line["step"], line["loss"]) for line in lines],
        "evaluations": [path.read_text() for path in sorted(workdir.glob("evaluation_*.json"))],
        "parameters": _sha256(*map(np.asarray, jax.tree.leaves(params))),
    }


def _tune_progress(folder: Path) -> int:
    steps = [path.name for path in (folder / "run" / "stages").glob("*/*")]
    return sum(name.isdigit() for name in steps)


def _encode_arguments(inputs: Inputs, folder: Path) -> list[str]:
    videos = map(str, inputs.videos)
    model = ["--checkpoint", str(inputs.checkpoint), "--store", str(folder / "store")]
    return ["encode", *videos, *model, *SELECTION]


def _encode_results(folder: Path) -> dict[str, Any]:
    return {"store": _stored_clips(folder / "store")}


def _num_clips(folder: Path) -> int:
    root = folder / "store"
    return sum(video.clips for video in TokenStore(root).contents()) if root.is_dir() else 0


def _ask_arguments(inputs: Inputs, folder: Path) -> list[str]:
    model = ["--checkpoint", str(inputs.checkpoint), "--store", str(folder / "store")]
    evidence = ["--evidence", str(folder / "answer.json"), "--max-new-tokens", "4"]
    return ["ask", str(inputs.videos[0]), *QUESTIONS, *model, *evidence, *SELECTION]


def _ask_results(folder: Path) -> dict[str, Any]:
    pages = [json.loads(path.read_text()) for path in sorted(folder.glob("answer-*.json"))]
    for page in pages:
        del page["costs"], page["wall_seconds"]
    return {"store": _stored_clips(folder / "store"), "evidence": pages}


def _convert_arguments(inputs: Inputs, folder: Path) -> list[str]:
    return ["convert", "from-torch", str(inputs.torch_checkpoint), str(folder / "converted")]


def _convert_results(folder: Path) -> dict[str, Any]:
    root = folder / "converted"
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        "files": [str(path.relative_to(root)) for path in files],
        "contents": [
            hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if path.name not in UNCOMPARED
        ],
    }


def _stored_clips(root: Path) -> dict[str, str]:
    """Returns the hash of every stored video's clips, all of them checked."""
    store, hashes = TokenStore(root), {}
    for stored in store.contents():
        if stored.key is None:
            hashes[stored.digest] = "no key"
            continue
        video = store.video(stored.key)
        starts = range(stored.key.num_clips)
        clips = video.read(start for start in starts if not video.missing([start]))
        hashes[stored.digest] = f"{sorted(clips)} {_sha256(*(clips[s] for s in sorted(clips)))}"
    return hashes


def _sha256(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "tune",
            _tune_arguments,
            _tune_results,
            _tune_progress,
            lambda folder: (folder / "run" / "summary.json").is_file(),
        ),
        Workload("encode", _encode_arguments, _encode_results, _num_clips, lambda folder: False),
        Workload(
            "convert",
            _convert_arguments,
            _convert_results,
            lambda folder: int((folder / "converted").is_dir()),
            lambda folder: (folder / "converted").is_dir(),
        ),
        Workload(
            "ask",
            _ask_arguments,
            _ask_results,
            _num_clips,
            lambda folder: (folder / f"answer-{len(QUESTIONS)}.json").is_file(),
        ),
    )
}
"""Commands under study, by name."""
