"""Tests of published protocols and of a user's protocol file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from xcomp_jax.config import ConfigError, ProtocolConfig, SamplingConfig, from_dict, to_dict
from xcomp_jax.evaluation.protocol import SYSTEMS, departures, load_protocol
from xcomp_jax.evaluation.statistics import standard_error
from xcomp_jax.evaluation.tasks import TASKS

NAMES = (*TASKS, "videomme_subtitles")


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", NAMES)
def test_load_protocol_shipped_round_trip_equal(name: str, system: str) -> None:
    protocol = load_protocol(name, system)
    assert from_dict(ProtocolConfig, to_dict(protocol)) == protocol
    assert protocol.benchmark in TASKS
    assert not protocol.subtitles or TASKS[protocol.benchmark].read_subtitles is not None
    # Source: generation_config.json of the released checkpoint, which the harness keeps.
    assert protocol.repetition_penalty == 1.1
    for score in protocol.published:
        assert score.source
        kind, _, value = score.group.partition("=")
        assert bool(kind) == bool(value)


def test_load_protocol_published_settings() -> None:
    mlvu = load_protocol("mlvu")
    assert mlvu.sampling == SamplingConfig(fps=8, min_frames=128, max_frames=1024)
    assert mlvu.selection is not None
    assert (mlvu.selection.select, mlvu.selection.repeats) == (256, 2)
    videomme = load_protocol("videomme")
    assert videomme.subset == "duration=long"
    assert load_protocol("lvbench", "vcf").sampling.max_frames == 640
    assert load_protocol("longvideobench").max_new_tokens == 32
    assert load_protocol("charades").max_new_tokens == 50
    assert load_protocol("perceptiontest").max_new_tokens == 1024


def test_published_mlvu_tasks_average_to_macro_and_micro() -> None:
    scores = load_protocol("mlvu").published
    tasks = [score for score in scores if score.group]
    macro = sum(score.percent for score in tasks) / len(tasks)
    questions = sum(score.questions for score in tasks)
    micro = sum(score.percent * score.questions for score in tasks) / questions
    by_metric = {score.metric: score.percent for score in scores[:2]}
    assert (len(tasks), questions) == (7, 2175)
    assert macro == pytest.approx(by_metric["macro"], abs=0.05)
    assert micro == pytest.approx(by_metric["micro"], abs=0.05)
    right = round(0.667 * questions)
    assert 100 * standard_error([1] * right + [0] * (questions - right)) == pytest.approx(
        1.01, 0.01
    )


def test_departures_changed_settings_listed() -> None:
    published = load_protocol("mlvu")
    assert departures(published, published) == []
    changed = dataclasses.replace(
        published, dtype="bfloat16", sampling=SamplingConfig(max_frames=512), published=()
    )
    assert departures(changed, published) == [
        "dtype: bfloat16 instead of float16",
        "sampling.max_frames: 512 instead of 1024",
    ]


def test_load_protocol_own_file_loaded(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from xcomp_jax.config import ProtocolConfig, to_dict\n"
        "def get_config():\n"
        "    return to_dict(ProtocolConfig(benchmark='mlvu', system='mine', max_new_tokens=4))\n",
        encoding="utf-8",
    )
    assert load_protocol("mlvu", file).max_new_tokens == 4
    with pytest.raises(ConfigError, match=r"one of mlvu, not of lvbench"):
        load_protocol("lvbench", file)
    with pytest.raises(ConfigError, match=r"absent\.py: no such protocol; use published, vcf or"):
        load_protocol("mlvu", tmp_path / "absent.py")
    file.write_text("x = 1", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"defines no get_config"):
        load_protocol("mlvu", file)
    with pytest.raises(ConfigError, match="no published protocol of 'mvlu'"):
        load_protocol("mvlu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0 must be at least 1"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty=0\.0 must be positive"),
        ({"subset": "long"}, "subset='long' must be"),
        ({"yarn_factor": 0.5}, r"yarn_factor=0\.5 must be at least 1"),
        ({"clip_frames": 0}, "clip_frames=0 must be at least 1"),
    ],
)
def test_protocol_invalid_values_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ProtocolConfig(benchmark="mlvu", system="mine", **change)  # type: ignore[arg-type]
