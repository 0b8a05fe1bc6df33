"""Tests of the paper's tables without training: schedules, numbers, resuming, messages."""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path

import pytest

from xcomp_jax.cli.main import main
from xcomp_jax.compression.schedule import plan_layer_groups, tokens_per_frame_by_layer
from xcomp_jax.config import SelectionConfig
from xcomp_jax.evaluation.protocol import load_protocol
from xcomp_jax.experiment import load_experiment
from xcomp_jax.launch.bench.paper.cells import (
    RESULT,
    CellResult,
    row_protocol,
    stored_result,
)
from xcomp_jax.launch.bench.paper.command import parse_checkpoints
from xcomp_jax.launch.bench.paper.compressions import compressions
from xcomp_jax.launch.bench.paper.efficiency import query_tflop, sections
from xcomp_jax.launch.bench.paper.generated_task import TASK, load
from xcomp_jax.launch.bench.paper.layouts import FRAME_COUNTS, SCORE_TABLES, SELECTION
from xcomp_jax.launch.bench.paper.report import score_sections, write_table
from xcomp_jax.launch.bench.paper.scores import Column, claim_interval, row_interval
from xcomp_jax.launch.bench.paper.toy_tables import RECIPE, TOY_SELECTION
from xcomp_jax.launch.studies.schedules.conditions import RANKED, STEPWISE
from xcomp_jax.variants import XCOMP_2B

TABLE = SCORE_TABLES["2"]


@pytest.mark.parametrize("model", [load_experiment(RECIPE).model, XCOMP_2B])
def test_compressions_share_the_mean_and_end_at_one_token(model) -> None:  # type: ignore[no-untyped-def]
    means = set()
    for name, compression in compressions(model).items():
        groups = plan_layer_groups(
            compression,
            num_layers=model.llm.num_hidden_layers,
            tokens_per_frame=model.projector.tokens_per_frame,
        )
        counts = tokens_per_frame_by_layer(groups, model.projector.tokens_per_frame)
        if name != "none":
            means.add(round(statistics.fmean(counts), 9))
            assert counts[-1] == 1
    assert len(means) == 1


def test_compressions_of_five_layers_equal_the_earlier_study() -> None:
    found = compressions(load_experiment(RECIPE).model)
    assert (found["stepwise"], found["ranked"]) == (STEPWISE, RANKED)


def test_layouts_claims_and_rows_are_consistent() -> None:
    for table in SCORE_TABLES.values():
        titles = [row.title for row in table.rows]
        assert len(set(titles)) == len({row.cell for row in table.rows}) == len(titles)
        for claim in table.claims:
            assert {claim.better, claim.worse} <= set(titles)
        for row in table.rows:
            assert set(row.published) <= set(table.benchmarks)


def results(right: list[int], of: int) -> list[CellResult]:
    """Returns one result per seed with `right` of `of` questions, one video each."""
    videos = tuple(f"v{number}" for number in range(of))
    return [CellResult(tuple(float(i < count) for i in range(of)), videos, 0.5) for count in right]


def test_intervals_are_over_seeds_from_three_seeds_on() -> None:
    # Student's quantile for 2 degrees of freedom is 4.303; the deviation of 5, 6, 7 is 1.
    over_seeds = row_interval(results([5, 6, 7], 10))
    assert over_seeds.mean == pytest.approx(0.6)
    assert over_seeds.high - 0.6 == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)
    # One seed: bootstrap over 400 videos, close to the binomial interval.
    over_videos = row_interval(results([240], 400))
    assert over_videos.high - 0.6 == pytest.approx(1.96 * (0.24 / 400) ** 0.5, rel=0.1)


def test_claims_are_paired_by_question() -> None:
    cells = {row.title: row.cell for row in TABLE.rows}
    claim = TABLE.claims[0]
    both = {cells[claim.better]: results([60], 100), cells[claim.worse]: results([50], 100)}
    paired = claim_interval(claim, TABLE, both)
    assert paired is not None
    assert paired.mean == pytest.approx(0.1)
    assert paired.verdict == "holds", "the same questions are right but for ten"
    worse = dataclasses.replace(
        both[cells[claim.worse]][0], scores=tuple(reversed(both[cells[claim.worse]][0].scores))
    )
    unpaired = claim_interval(claim, TABLE, {**both, cells[claim.worse]: [worse]})
    assert unpaired is not None
    assert unpaired.verdict == "undecided", "control: other questions, equal means"
    assert claim_interval(claim, TABLE, {}) is None


def test_table_has_published_and_own_numbers(tmp_path: Path) -> None:
    rows = {row.title: row.cell for row in SELECTION.rows}
    column = Column(
        name="generated",
        title="generated",
        results={
            rows["selected, global scores"]: results([50, 60, 70], 100),
            rows["selected, scores in segments"]: results([60, 70, 81], 100),
        },
        chance=0.25,
    )
    filled = score_sections(SELECTION, [column], ["Note."])
    page = write_table(tmp_path, "4", SELECTION.title, filled)
    text = (tmp_path / "table-4.md").read_text()
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line[:2] == "| "}
    segments = lines["selected, scores in segments"]
    assert "| 46.2 | 66.7 | 59.7 | 70.3 [44.2, 96.4] | 50.0 |" in segments
    assert "| 44.3 | 65.2 | 58.8 | \N{EN DASH} |" in lines["all frames"]
    claim = lines["selected, scores in segments > selected, global scores"]
    assert "+10.3 [+8.9, +11.8] | holds" in claim
    html = page.read_text()
    assert "70.3 [44.2, 96.4]" in html
    assert "<script" not in html
    assert "http" not in html.split("</style>")[1]


def test_row_protocol_applies_frames_and_selection() -> None:
    protocol = load_protocol("lvbench")
    selected = row_protocol(protocol, SELECTION.rows[1], frames=4096, selection=TOY_SELECTION)
    assert selected.selection == dataclasses.replace(TOY_SELECTION, scope="global")
    kept = row_protocol(protocol, FRAME_COUNTS.rows[0], frames=64, selection=SelectionConfig())
    assert (kept.selection, kept.sampling.max_frames, kept.sampling.min_frames) == (None, 64, 64)


def test_stored_result_damaged_is_named(tmp_path: Path) -> None:
    assert stored_result(tmp_path) is None
    (tmp_path / RESULT).write_text("{")
    with pytest.raises(ValueError, match="delete its folder, and the row is run again"):
        stored_result(tmp_path)


def test_counted_operations_are_near_the_published() -> None:
    published = ((1024, 43, 20), (2048, 132, 58), (4096, 448, 187))
    for frames, *expected in published:
        for name, tflop in zip(("none", "progressive"), expected, strict=True):
            # Multiply-adds with all pairs; the paper leaves out some of the text.
            pairs = query_tflop(XCOMP_2B, name, frames, all_pairs=True) / 2
            assert pairs == pytest.approx(tflop, rel=0.15)
            operations = query_tflop(XCOMP_2B, name, frames)
            assert operations > 1.15 * tflop, "control: two per multiply-add"
    (section,) = sections(None, (), "")
    assert [row[0] for row in section.rows] == ["1,024", "2,048", "4,096"]


def test_generated_task_reads_answers_exactly(tmp_path: Path) -> None:
    entry = {
        "id": "q",
        "video": "videos/v.mp4",
        "kind": "flash",
        "options": ["red", "blue"],
        "conversations": [
            {"from": "human", "value": "<image>\nWhat color?"},
            {"from": "gpt", "value": "blue"},
        ],
        "evidence": [[1.0, 1.25]],
    }
    (tmp_path / "questions.json").write_text(json.dumps([entry]))
    (question,) = load(tmp_path)
    assert (question.text, question.gold, question.evidence) == ("What color?", 1, ((1.0, 1.25),))
    scores = {text: TASK.read(question, text)["strict"] for text in (" blue", "red", "bluered", "")}
    assert [reading.score for reading in scores.values()] == [1.0, 0.0, 0.0, 0.0]
    assert [r.status for r in scores.values()] == ["parsed", "parsed", "unparsed", "empty"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "learned=."], "role 'learned' is not one of base, none"),
        (["--checkpoint", "nowhere"], "holds no checkpoint"),
        (["--data", "."], "--data needs --checkpoint"),
        (["--seeds", "1", "1"], "list every seed once"),
    ],
)
def test_paper_wrong_options_are_named(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "paper", "--table", "2", "--out", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_paper_folder_of_other_settings_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.json").write_text('{"seeds": [7], "set": [], "limit": null}')
    assert main(["bench", "paper", "--table", "2", "--out", str(tmp_path), "--seeds", "1"]) == 2
    assert "seeds: [1] instead of [7]" in capsys.readouterr().err


def test_parse_checkpoints_bare_folder_is_progressive(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    found = parse_checkpoints([str(tmp_path), f"base={tmp_path}"])
    assert found == {"progressive": tmp_path, "base": tmp_path}
    with pytest.raises(ValueError, match=r"has .* already"):
        parse_checkpoints([str(tmp_path), f"progressive={tmp_path}"])
