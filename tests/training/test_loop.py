"""Tests running a stage: its outputs, non-finite losses, SIGTERM."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.data.prepared.example_set import write_set
from tests.tiny import tiny_params
from tests.training.tiny_experiment import EXPERIMENT
from xcomp_jax.config import CompressionConfig, ConfigError, ExperimentConfig, StageConfig, to_dict
from xcomp_jax.data.prepared.dataset import PreparedDataset
from xcomp_jax.models.xcomp import Params
from xcomp_jax.sharding import make_mesh
from xcomp_jax.training import stage_loop
from xcomp_jax.training.evaluate import Evaluation
from xcomp_jax.training.loop import run_stage
from xcomp_jax.training.metrics import read_metrics
from xcomp_jax.training.observe import Observation, Profile
from xcomp_jax.training.run import Run
from xcomp_jax.training.step_report import NonFiniteLossError
from xcomp_jax.training.stopping import Stopped, StopRequest, stopping_on_sigterm
from xcomp_jax.training.writers import open_writers

STAGE = dataclasses.replace(
    EXPERIMENT.stages[1],
    num_steps=6,
    trainable=("llm",),
    compression=CompressionConfig(schedule="none"),
)
CONFIG: ExperimentConfig = dataclasses.replace(
    EXPERIMENT, stages=(STAGE,), init_from="elsewhere", save_every_steps=2, evaluate_every_steps=2
)


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_loop, "make_train_step", functools.cache(stage_loop.make_train_step))
        yield


@pytest.fixture(scope="module", name="dataset")
def dataset_fixture(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    size = CONFIG.model.vision.image_size
    return write_set(tmp_path_factory.mktemp("prepared") / "set", size=size)


def params() -> Params:
    # A copy, because a stage donates its parameters.
    return jax.tree.map(lambda leaf: leaf.copy(), tiny_params(CONFIG.model))


def train(
    workdir: Path,
    dataset: PreparedDataset,
    initial: Params,
    *,
    config: ExperimentConfig = CONFIG,
    observation: Observation | None = None,
    stop: StopRequest | None = None,
    while_evaluating: Callable[[], None] = lambda: None,
) -> Params:
    observation = observation or Observation(progress=False)
    workdir.mkdir(exist_ok=True)

    def evaluate(stage: StageConfig, _: Params) -> Evaluation:
        assert stage == STAGE
        while_evaluating()
        return Evaluation(right=3, asked=4, by_kind={"": (3, 4)})

    run = Run(
        config=config,
        workdir=workdir,
        mesh=make_mesh(config.mesh, jax.devices()[:1]),
        observation=observation,
        stop=stop or StopRequest(),
        writers=open_writers(observation, config, workdir),
    )
    try:
        return run_stage(run, STAGE, initial, dataset, evaluate=evaluate)
    finally:
        for writer in run.writers:
            writer.close()


@pytest.fixture(scope="module", name="whole")
def whole_fixture(
    tmp_path_factory: pytest.TempPathFactory, dataset: PreparedDataset
) -> tuple[Path, Params]:
    workdir = tmp_path_factory.mktemp("whole") / "run"
    profile = Profile(step=2, count=2)
    observation = Observation(progress=False, tensorboard=True, profile=profile)
    return workdir, train(workdir, dataset, params(), observation=observation)


def test_run_stage_writes_all_outputs(whole: tuple[Path, Params]) -> None:
    workdir, _ = whole
    evaluations = read_metrics(workdir / "evaluations.jsonl")
    assert [(line["step"], line["accuracy"]) for line in evaluations] == [
        (2, 0.75),
        (4, 0.75),
        (6, 0.75),
    ]
    events = b"".join(path.read_bytes() for path in (workdir / "tensorboard").iterdir())
    assert b"sct/loss" in events
    assert b"sct/held_out_accuracy" in events
    assert list((workdir / "profile" / "sct").rglob("*.xplane.pb"))
    assert checkpoints_of(workdir) == {4, 6}, "keeps the two newest of three"
    meta = json.loads((workdir / "stages" / "sct" / "6" / "meta" / "metadata").read_text())
    assert meta["config"] == json.loads(json.dumps(to_dict(CONFIG)))
    assert {"xcomp_jax", "jax", "grain"} <= meta["code"].keys()
    data = json.loads((workdir / "stages" / "sct" / "6" / "data" / "metadata").read_text())
    assert data == {"examples_seen": 6 * STAGE.batch_size}


def train_until_stopped(
    workdir: Path,
    dataset: PreparedDataset,
    while_evaluating: Callable[[], None],
    *,
    config: ExperimentConfig = CONFIG,
    message: str,
) -> None:
    with stopping_on_sigterm() as stop, pytest.raises(Stopped, match=message):
        train(
            workdir,
            dataset,
            params(),
            config=config,
            stop=stop,
            while_evaluating=while_evaluating,
        )


def send_sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def checkpoints_of(workdir: Path) -> set[int]:
    return {int(path.name) for path in (workdir / "stages" / "sct").iterdir()}


def test_run_stage_non_finite_loss_saves_batch_and_raises(
    tmp_path: Path, dataset: PreparedDataset
) -> None:
    broken = params()
    scale = broken["llm"]["norm"]["scale"]
    broken["llm"]["norm"]["scale"] = scale.at[3].set(np.nan)
    with pytest.raises(NonFiniteLossError, match=r"stage 'sct', step 1: loss=nan") as error:
        train(tmp_path / "run", dataset, broken)
    with np.load(tmp_path / "run" / "nonfinite" / "sct-step-1-process-0.npz") as file:
        saved = dict(file)
    ids = [dataset.rows[row].id for row in saved["index"]]
    assert len(ids) == STAGE.batch_size
    assert saved["ids"].tolist() == ids
    assert f"on the samples {ids}, saved as" in str(error.value)
    video = dataset.rows[int(saved["index"][1])].video
    np.testing.assert_array_equal(
        saved["frames"][1][: saved["num_frames"][1]], dataset.frames(video)
    )
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == []
    assert checkpoints_of(tmp_path / "run") == set(), "no checkpoint of the broken state"


def test_sigterm_between_steps_saves_and_resumes(
    tmp_path: Path, dataset: PreparedDataset, whole: tuple[Path, Params]
) -> None:
    config = dataclasses.replace(CONFIG, save_every_steps=100)
    # Sent during the evaluation after step 2, handled at step 3.
    message = "stopped by SIGTERM after step 3 of stage 'sct', which is saved"
    train_until_stopped(tmp_path / "run", dataset, send_sigterm, config=config, message=message)
    assert checkpoints_of(tmp_path / "run") == {3}
    after = train(tmp_path / "run", dataset, params(), config=config)
    jax.tree.map(np.testing.assert_array_equal, after, whole[1])
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    moved = np.abs(after["llm"]["norm"]["scale"] - params()["llm"]["norm"]["scale"]).max()
    assert moved > 1e-4, "control: the parameters moved"


def test_sigterm_after_last_step_raises_stopped(
    tmp_path: Path, dataset: PreparedDataset, whole: tuple[Path, Params]
) -> None:
    evaluations = []

    def while_evaluating() -> None:
        evaluations.append(1)
        if len(evaluations) == 3:
            send_sigterm()

    workdir = tmp_path / "run"
    train_until_stopped(workdir, dataset, while_evaluating, message="everything was saved")
    assert max(checkpoints_of(workdir)) == STAGE.num_steps
    jax.tree.map(np.testing.assert_array_equal, train(workdir, dataset, params()), whole[1])


def test_sigterm_before_evaluation_skips_it(tmp_path: Path, dataset: PreparedDataset) -> None:
    config = dataclasses.replace(CONFIG, evaluate_every_steps=1)
    evaluations = []

    def while_evaluating() -> None:
        evaluations.append(1)
        send_sigterm()

    workdir = tmp_path / "run"
    train_until_stopped(workdir, dataset, while_evaluating, config=config, message="after step 2")
    assert len(evaluations) == 1


def test_sigterm_in_suppressed_block_raises_stopped() -> None:
    with pytest.raises(Stopped), stopping_on_sigterm(), contextlib.suppress(Exception):
        send_sigterm()


def test_sigterm_outside_a_stage_raises_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="there was nothing to save"), stopping_on_sigterm():
        send_sigterm()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("text", ["", "5", "0:2", "3:0", "a:b", "1:2:3"])
def test_profile_parse_invalid_text_raises(text: str) -> None:
    with pytest.raises(ConfigError, match="must be STEP:COUNT"):
        Profile.parse(text)


def test_announce_without_progress_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Observation(progress=False).announce("Data: opening")
    assert capsys.readouterr().err == ""
    Observation().announce("Data: opening")
    assert capsys.readouterr().err == "Data: opening\n"
