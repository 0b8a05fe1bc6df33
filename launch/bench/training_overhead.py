"""Measure the share of a training step that the host spends outside compiled code."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import jax

from xcomp_jax.checkpoint import save_params
from xcomp_jax.config import DataConfig, ExperimentConfig, MixtureConfig, from_dict
from xcomp_jax.configs import smoke
from xcomp_jax.data.mixture.experiment import open_training_mixture, scan_training_mixture
from xcomp_jax.data.mixture.samples import load_mixture
from xcomp_jax.data.mixture.scan import read_table, scan
from xcomp_jax.data.synthetic.generate import generate
from xcomp_jax.engine.compilation import use_compilation_cache
from xcomp_jax.inference.encode_mixture import encode_media, open_encoder
from xcomp_jax.launch.bench.host_rates import ASSUMED_MFU, decoding_rate, host_cores, reading_rate
from xcomp_jax.launch.bench.profile_trace import share_outside_programs
from xcomp_jax.models.xcomp import init_params
from xcomp_jax.sharding import make_mesh
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.training.loop import run_stage
from xcomp_jax.training.metrics import read_metrics
from xcomp_jax.training.observe import Observation, Profile
from xcomp_jax.training.run import Run
from xcomp_jax.training.stopping import StopRequest

WARM_UP_STEPS = 10
TRACED_STEPS = 20


def prepare(folder: Path, videos: int) -> ExperimentConfig:
    """Generates videos, stores their features, and returns the smoke tuning stage on them."""
    config: ExperimentConfig = from_dict(ExperimentConfig, smoke.get_config().to_dict())
    generated = generate(
        folder / "videos", seed=0, num_train_videos=videos, num_eval_videos=16, progress=False
    )
    dataset = {"json_path": str(generated.train_manifest), "data_root": str(generated.folder)}
    # JSON is valid YAML.
    (folder / "mixture.yaml").write_text(json.dumps({"datasets": [dataset]}), encoding="utf-8")
    mixture = MixtureConfig(path=str(folder / "mixture.yaml"))
    checkpoint = folder / "checkpoint"
    if not checkpoint.exists():
        save_params(checkpoint, config.model, _random_params(config), source={})
    _store_features(config, mixture, checkpoint, folder)
    return dataclasses.replace(
        config,
        init_from=str(checkpoint),
        data=DataConfig(source="mixture", mixture=mixture, prompt_as_asked=True),
        stages=config.stages[1:],
        save_every_steps=10**6,
    )


def _store_features(
    config: ExperimentConfig, mixture: MixtureConfig, checkpoint: Path, folder: Path
) -> None:
    samples = load_mixture(mixture).samples
    table = folder / "scan.csv"
    scan(samples, Path(), table, workers=2, progress=False)
    store, encoder, model = open_encoder(checkpoint, folder / "features")
    encode_media(
        samples,
        read_table(table),
        store,
        encoder,
        root=Path(),
        sampling=config.sampling,
        config=model,
        workers=2,
        progress=False,
    )


def measure_loop(
    config: ExperimentConfig, folder: Path, steps: int, features: str
) -> dict[str, float]:
    """Trains for `steps`; returns the median step time and shares of time outside the model.

    Shares come from the metrics and the profiler trace of the loop itself.
    """
    mixture = dataclasses.replace(config.data.mixture, features=features)
    stage = dataclasses.replace(config.stages[0], num_steps=steps)
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, mixture=mixture), stages=(stage,)
    )
    workdir = Path(tempfile.mkdtemp(dir=folder))
    scan_training_mixture(config, workdir, progress=False)
    dataset = open_training_mixture(config, workdir, load_tokenizer(None), progress=False)
    untraced = steps - TRACED_STEPS
    profile = Profile(step=untraced + 1, count=TRACED_STEPS)
    run = Run(
        config=config,
        workdir=workdir,
        mesh=make_mesh(config.mesh),
        observation=Observation(progress=False, profile=profile),
        stop=StopRequest(),
    )
    with jax.set_mesh(run.mesh):
        run_stage(run, stage, _random_params(config), dataset, evaluate=_no_evaluation)
    lines = read_metrics(workdir / "metrics.jsonl")[WARM_UP_STEPS:untraced]
    seconds = [line["seconds"] for line in lines]
    return {
        "step_seconds": statistics.median(seconds),
        "waiting_for_data": sum(line["data_seconds"] for line in lines) / sum(seconds),
        "outside_compiled_code": share_outside_programs(workdir / "profile"),
    }


def _random_params(config: ExperimentConfig) -> Any:
    return init_params(config.model, jax.random.key(0))


def _no_evaluation(*_: Any) -> Any:
    raise AssertionError("the smoke tuning stage has no evaluation steps")


def run(options: argparse.Namespace) -> int:
    """Prints each measurement as one line of JSON.

    Raises:
        ValueError: `--steps` leaves no step to measure.
    """
    skipped = WARM_UP_STEPS + TRACED_STEPS
    if options.steps <= skipped:
        raise ValueError(
            f"--steps {options.steps} must exceed {skipped}: the first {WARM_UP_STEPS} steps "
            f"compile and the last {TRACED_STEPS} are traced"
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        use_compilation_cache(folder / "cache")
        config = prepare(folder, options.videos)
        frames_per_second, bytes_per_second = decoding_rate(folder), reading_rate(folder)
        _show("decoded frames per core second, 720p to 448 px", frames_per_second)
        _show("features read per core second, MB", bytes_per_second / 1e6)
        _show(f"v5p-64 at an MFU of {ASSUMED_MFU}", host_cores(frames_per_second, bytes_per_second))
        _show("from files", measure_loop(config, folder, options.steps, ""))
        stored = str(folder / "features")
        _show("from the store", measure_loop(config, folder, options.steps, stored))
    return 0


def _show(name: str, value: Any) -> None:
    print(json.dumps({name: value}, default=float), flush=True)
