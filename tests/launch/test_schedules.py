"""Test the study of schedules without training: conditions, statistics, results and report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xcomp_jax.config import ConfigError, ExperimentConfig
from xcomp_jax.data.prepared.dataset import PreparedDataset
from xcomp_jax.experiment import load_experiment
from xcomp_jax.launch.studies.schedules import run
from xcomp_jax.launch.studies.schedules.claims import CLAIMS, Claim, Interval, interval, paired
from xcomp_jax.launch.studies.schedules.command import main
from xcomp_jax.launch.studies.schedules.conditions import (
    CONDITIONS,
    RANKED,
    STEPWISE,
    common_mean,
    tokens_by_layer,
)
from xcomp_jax.launch.studies.schedules.report import Comparison, markdown, summary, write_report
from xcomp_jax.launch.studies.schedules.run import Result, read_result, results_of_seed
from xcomp_jax.training.evaluate import Evaluation
from xcomp_jax.training.observe import Observation
from xcomp_jax.training.stopping import StopRequest

RECIPE = load_experiment(Path("schedules_in_small"))


def test_compressed_conditions_share_mean_and_end_at_one() -> None:
    assert common_mean(RECIPE.model, CONDITIONS) == 24 / 5
    assert tokens_by_layer(RECIPE.model, STEPWISE) == (10, 10, 2, 1, 1)
    assert tokens_by_layer(RECIPE.model, RANKED) == (10, 10, 2, 1, 1)


@pytest.mark.parametrize(
    "change", [{"drop_after_layers": (2, 4)}, {"strides": (5,), "drop_after_layers": (2,)}]
)
def test_common_mean_with_another_mean_or_end_is_refused(change: dict[str, Any]) -> None:
    other = dataclasses.replace(CONDITIONS[2], compression=dataclasses.replace(STEPWISE, **change))
    with pytest.raises(ConfigError, match=r"one mean number of tokens.*step-wise: mean"):
        common_mean(RECIPE.model, (*CONDITIONS[3:], other))


def test_interval_equals_students_table() -> None:
    # Table: 3.182 for 3 degrees of freedom; the deviation of 1, 2, 3, 4 is sqrt(5 / 3).
    result = interval([1, 2, 3, 4])
    assert result.mean == 2.5
    assert result.high - 2.5 == pytest.approx(3.182 * (5 / 3) ** 0.5 / 2, rel=1e-3)
    assert result.high - 2.5 == pytest.approx(2.5 - result.low)
    with pytest.raises(ValueError, match="at least 2"):
        interval([0.5])


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.3, "holds"), (-0.1, 0.3, "undecided"), (-0.3, -0.1, "does not hold")],
)
def test_verdict_depends_on_the_whole_interval(low: float, high: float, verdict: str) -> None:
    assert Interval((low + high) / 2, low, high).verdict == verdict


def test_paired_differences_are_within_seeds() -> None:
    accuracy = {"a": [0.5, 0.7, 0.9], "b": [0.48, 0.675, 0.885]}
    difference = paired(Claim("a", "b"), accuracy)
    assert difference.mean == pytest.approx(0.02)
    assert difference.verdict == "holds"
    accuracy["b"].reverse()
    assert paired(Claim("a", "b"), accuracy).verdict == "undecided", "control: other pairs"


def results(right: Sequence[int]) -> list[Result]:
    """Returns one result per seed, with `right` of 100 answers correct, 3 of 5 about colour."""
    return [
        Result(Evaluation(n, 100, {"color": (n * 3 // 5, 60), "moment": (n * 2 // 5, 40)}), 0.25)
        for n in right
    ]


def comparison() -> Comparison:
    right = {condition.name: [50, 60, 70] for condition in CONDITIONS}
    right["learned_progressive"] = [65, 75, 84]
    right["learned_uniform"] = [70, 70, 70]
    return Comparison(
        model=RECIPE.model,
        seeds=(1, 2, 3),
        results={name: results(counts) for name, counts in right.items()},
        seconds=90,
    )


def test_report_shows_accuracies_and_verdicts(tmp_path: Path) -> None:
    write_report(comparison(), tmp_path)
    text = (tmp_path / "report.md").read_text()
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line[:2] == "| "}
    titles = {condition.name: condition.title for condition in CONDITIONS}
    progressive = titles["learned_progressive"]
    assert "| 74.4% | 74.2% | **74.7%**" in rows[progressive]
    assert rows[f"{progressive} > {titles['learned_stepwise']}"].endswith("| **holds** |")
    assert "+15.0 +15.0 +14.0" in rows[f"{progressive} > {titles['learned_stepwise']}"]
    assert rows[f"{progressive} > {titles['learned_uniform']}"].endswith("| **undecided** |")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert stored["questions"] == 300
    assert [claim["verdict"] for claim in stored["claims"]] == [
        "holds", "undecided", "undecided", "undecided", "undecided",
    ]  # fmt: skip


def test_claims_refer_to_conditions() -> None:
    names = {condition.name for condition in CONDITIONS}
    assert {name for claim in CLAIMS for name in dataclasses.astuple(claim)} <= names
    assert len(names) == len(CONDITIONS)
    assert summary(comparison())["claims"][0]["better"] in names
    assert "undecided" in markdown(comparison())


@pytest.fixture(name="work")
def work_fixture(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records training and evaluation instead of running them."""
    calls: list[str] = []

    def train(run: Any, stage: Any, params: Any, dataset: Any, **_: Any) -> str:
        assert params == ("random" if stage.name == "base" else "base")
        calls.append(f"{run.config.stages.index(stage)} {run.workdir.name}")
        return stage.name

    def answer(model: Any, params: str, *_: Any, label: str, **__: Any) -> Evaluation:
        calls.append(f"{label} of {params}")
        return Evaluation(3, 4, {"color": (3, 4)})

    prepared = PreparedDataset(
        folder=Path(), fingerprint="", image_size=8, max_frames=1, rows=(), _videos=()
    )
    monkeypatch.setattr(run, "run_stage", train)
    monkeypatch.setattr(run, "evaluate", answer)
    monkeypatch.setattr(run, "initial_params", lambda *_: "random")
    monkeypatch.setattr(run, "open_datasets", lambda *_, **__: (prepared, prepared))
    monkeypatch.setattr(run, "text_only_accuracy", lambda _: 0.25)
    monkeypatch.setattr(run, "load_tokenizer", lambda _: SimpleNamespace())
    return calls


def run_seed(folder: Path, config: ExperimentConfig = RECIPE) -> list[Result]:
    return list(
        results_of_seed(
            config,
            folder,
            CONDITIONS,
            observation=Observation(progress=False),
            stop=StopRequest(),
        )
    )


def test_interrupted_study_runs_missing_conditions(tmp_path: Path, work: list[str]) -> None:
    first = run_seed(tmp_path)
    learned = [condition.name for condition in CONDITIONS if condition.learned]
    trained = [line for line in work if line[0] in "01"]
    assert trained == [f"0 {tmp_path.name}", *(f"1 {name}" for name in learned)]
    assert "evaluate free_stepwise of base" in work
    assert "evaluate learned_stepwise of tuning" in work

    work.clear()
    assert run_seed(tmp_path) == first
    assert work == [], "all results exist"

    (tmp_path / "learned_uniform" / "result.json").unlink()
    assert run_seed(tmp_path) == first
    assert work[-2:] == ["1 learned_uniform", "evaluate learned_uniform of tuning"]
    assert len(work) == 3, "the base, one tuning and its evaluation"


def test_folder_of_another_recipe_is_refused(tmp_path: Path, work: list[str]) -> None:
    run_seed(tmp_path)
    with pytest.raises(ConfigError, match="another configuration"):
        run_seed(tmp_path, dataclasses.replace(RECIPE, seed=1))
    (tmp_path / "base" / "result.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        read_result(tmp_path / "base" / "result.json")


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "python -m xcomp_jax.launch.studies.schedules --seeds 1 2" in capsys.readouterr().out


@pytest.mark.parametrize("seeds", [["1"], ["1", "2", "1"]])
def test_seeds_without_interval_are_refused(
    seeds: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--seeds", *seeds])
    assert "at least two seeds" in capsys.readouterr().err
