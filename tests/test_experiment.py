"""Tests of configuration files, overrides and schema errors."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import pytest

from xcomp_jax.config import (
    CompressionConfig,
    ConfigError,
    ExperimentConfig,
    LoRAConfig,
    ModelConfig,
    VisionConfig,
    from_dict,
    to_dict,
)
from xcomp_jax.experiment import load_experiment
from xcomp_jax.files import TextError
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.variants import SMOKE, XCOMP_2B

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(path for path in CONFIGS.glob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_configs_json_round_trip_equal(path: Path) -> None:
    config = load_experiment(path)
    assert from_dict(ExperimentConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_xcomp_2b_config_equals_published_recipe() -> None:
    config = load_experiment(CONFIGS / "xcomp_2b.py")
    (stage,) = config.stages
    assert config.model == XCOMP_2B
    assert (stage.num_steps, stage.batch_size, stage.learning_rate) == (2247, 32, 1e-5)
    assert (config.sampling.min_frames, config.sampling.max_frames) == (128, 1024)


def test_smoke_model_fits_built_in_tokenizer() -> None:
    assert len(load_tokenizer(None)) <= SMOKE.llm.vocab_size


def test_overrides_nested_fields_set() -> None:
    config = load_experiment(
        CONFIGS / "smoke.py",
        [
            "stages.1.learning_rate=1",
            "stages.1.compression.max_distinct_lengths=3",
            "data.question_kinds=('color', 'shape')",
            "stages.0.remat=false",
            "init_from=none",
            "model.llm.num_hidden_layers=5",
            "stages.1.compression.schedule=none",
            "stages.0.name=2024",
            "stages.0.max_grad_norm=1e999",
        ],
    )
    assert config.stages[1].learning_rate == 1.0
    assert config.stages[1].compression.max_distinct_lengths == 3
    assert config.data.question_kinds == ("color", "shape")
    assert config.stages[0].remat is False
    assert config.model.llm.num_hidden_layers == 5
    assert config.stages[1].compression.schedule == "none"
    assert config.init_from is None
    assert config.stages[0].name == "2024"
    assert config.stages[0].max_grad_norm == math.inf


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.0.num_step=3", r"no field 'stages\.0\.num_step'.*stages\.0\.num_steps"),
        ("stages.7.num_steps=3", r"no field 'stages\.7\.num_steps'"),
        ("stages.0.num_steps=3.5", r"stages\[0\]\.num_steps=3\.5 must be of type int"),
        ("stages.0.num_steps=true", r"must be of type int, got bool"),
        ("model.dtype=float17", r"model\.dtype='float17' must be one of"),
        ("seed", r"must read field=value"),
        ("model.llm.num_attention_heads=3", r"num_attention_heads=3 must divide"),
        ("stages.0.trainable=('llm', 'tail')", r"must be taken from"),
        ("model.projector.tokens_per_frame=16", r"must be less than the 16 patches"),
        ("model.llm.intermediate_size=0", r"llm\.intermediate_size=0 must be at least 1"),
        ("seed=2000000000000000000000", r"seed=2000000000000000000000 must lie in \[0, 4294967295"),
        ("stages.0.max_grad_norm=0", r"stage 'base': max_grad_norm=0\.0 must be positive"),
        ("stages.0.max_grad_norm=-1", r"max_grad_norm=-1\.0 must be positive"),
        ("stages.0.beta1=1", r"beta1=1\.0 must lie in \[0, 1\)"),
        ("stages.0.beta2=-3", r"beta2=-3\.0 must lie in \[0, 1\)"),
        ("stages.0.eps=-1", r"eps=-1\.0 must be positive"),
        ("stages.0.weight_decay=-5", r"weight_decay=-5\.0 must be finite and not negative"),
        ("stages.0.learning_rate=1e999", r"learning_rate=inf .* must be finite"),
        ("stages.0.learning_rates.llm=1e999", r"'llm': inf.* must be finite"),
        ("stages.0.name=../../escaped", r"stage name '\.\./\.\./escaped' names a folder"),
        ("stages.0.name=..", r"stage name '\.\.' names a folder"),
        ("stages.0.lora.rank=4", r"stages\.0\.lora is None.*stages\.0\.lora=\{'rank': 4\}"),
        ("data.question_kinds=[]", r"data\.question_kinds=\(\) is empty"),
        ("data.train=a.json", r"data\.train='a\.json' is not used with .*'generated'"),
        ("data.held_out=a.json", r"data\.held_out='a\.json' is not used"),
        ("data.mixture.path=a.yaml", r"data\.mixture\.path='a\.yaml' is not used"),
        ("model.llm.rope_theta=1e999", r"with --set: llm\.rope_theta=inf must be positive and"),
        ("model.vision.block_norm_eps=-1", r"vision\.block_norm_eps=-1\.0 must be positive and"),
        ("data.max_text_tokens=0", r"data\.max_text_tokens=0 must be at least 1"),
        ("data.mixture.read_ahead_gib=1e999", r"read_ahead_gib=inf must be positive and finite"),
        (f"stages.0.eps=1{'0' * 400}", r"stages\[0\]\.eps has an integer that is too large"),
        ("seed=" + "(" * 5000, r"seed='\(+' must be of type int"),
        ("model.compression.keep=uniform", r"model\.compression=.*'uniform'.* has no effect"),
    ],
)
def test_overrides_invalid_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_experiment(CONFIGS / "smoke.py", [override])


def test_overrides_part_of_none_refused() -> None:
    config = load_experiment(CONFIGS / "smoke.py", ["stages.0.lora={'rank': 4}"])
    assert config.stages[0].lora == LoRAConfig(rank=4)


def test_load_experiment_invalid_file_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_experiment(tmp_path / "none.py")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ConfigError, match="defines no get_config"):
        load_experiment(tmp_path / "empty.py")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("def get_config():\n    return unknown", "line 2: NameError: name 'unknown'"),
        ("def get_config():\n    return 5", "defines no get_config"),
        ("x = {\n", r"cannot be run as Python: .*line 1"),
        ("import configs.none", "cannot be run as Python: No module named"),
        ("def get_config():\n    return {'nmae': 'x'}", r"\['nmae'\] \(did you mean 'name'\?\)"),
        ("def get_config():\n    return {1: 'x'}", r"unknown field\(s\) \[1\]"),
        ("x = 'a\0b'", r"is not UTF-8 text \(it holds zero bytes"),
    ],
    ids=range(7),
)
def test_load_experiment_failing_file_is_named(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "experiment.py"
    path.write_text(content)
    with pytest.raises((ConfigError, TextError), match=rf"experiment\.py.*{reason}"):
        load_experiment(path)


def test_load_experiment_edited_file_of_equal_size_is_read(tmp_path: Path) -> None:
    """Bytecode of an earlier version is not run, and a byte-order mark is accepted."""
    path = tmp_path / "experiment.py"
    source = "\ufeff" + (CONFIGS / "smoke.py").read_text()
    for size in (32, 64):
        path.write_text(source.replace("BATCH = 16", f"BATCH = {size}"), encoding="utf-8")
        os.utime(path, (1e9, 1e9))
        assert load_experiment(path).stages[0].batch_size == size


def test_from_dict_unknown_or_missing_field_refused() -> None:
    values = to_dict(XCOMP_2B)
    with pytest.raises(ConfigError, match=r"vision: unknown field\(s\) \['colour'\]; known:"):
        from_dict(ModelConfig, {**values, "vision": {"colour": 1}})
    with pytest.raises(
        ConfigError, match=r"missing field\(s\) \['name', 'model', 'stages', 'data'\]"
    ):
        from_dict(ExperimentConfig, {})


def test_compression_invalid_combinations_refused() -> None:
    for fields, message in (
        ({"drop_after_layers": (3,)}, "goes with schedule='stepwise'"),
        ({"schedule": "stepwise"}, "goes with schedule='stepwise'"),
        ({"keep": "average"}, "needs schedule='stepwise'"),
        (
            {"schedule": "stepwise", "drop_after_layers": (1, 2), "strides": (2,)},
            "needs one entry for each",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            CompressionConfig(**fields)  # type: ignore[arg-type]
    late = CompressionConfig(schedule="stepwise", drop_after_layers=(28,), strides=(2,))
    with pytest.raises(ConfigError, match=r"must increase within \[1, 27\] for 28 layers"):
        dataclasses.replace(XCOMP_2B, compression=late)
    with pytest.raises(ConfigError, match="must divide vision"):
        VisionConfig(image_size=100)
