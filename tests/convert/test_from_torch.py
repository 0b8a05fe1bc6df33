"""What ends up where, and everything a checkpoint is refused for."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.convert import torch_model
from tests.convert.conftest import GOLDEN_MODEL
from xcomp_jax.checkpoint import CheckpointError, load_params
from xcomp_jax.config import CompressionConfig
from xcomp_jax.convert.__main__ import main
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.from_torch import convert_from_torch, load_torch_checkpoint

Values = dict[str, np.ndarray]

Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
NORM = "model.norm.weight"
EMBED = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


def rewrite(folder: Path, **changes: np.ndarray | None) -> None:
    """Replaces, adds or (None) removes tensors of a single-file checkpoint."""
    path = folder / "model.safetensors"
    values = {name: array.copy() for name, array in load_file(path).items()}
    for name, array in changes.items():
        if array is None:
            del values[name]
        else:
            values[name] = array
    save_file(values, path, metadata={"format": "pt"})


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(folder: Path, **options: Any) -> list[str]:
    """Problems of a refused conversion, after checking that nothing was written."""
    out = folder.parent / "out"
    before = sorted(entry.name for entry in folder.parent.iterdir())
    with pytest.raises(ConversionError) as caught:
        convert_from_torch(str(folder), out, **options)
    assert sorted(entry.name for entry in folder.parent.iterdir()) == before
    return caught.value.problems


# --- values ------------------------------------------------------------------------------------


def test_every_array_is_what_the_file_says() -> None:
    """Each array against the recorded file, with the layout written out once more by hand."""
    source = load_file(GOLDEN_MODEL / "model.safetensors")
    model, params = load_torch_checkpoint(GOLDEN_MODEL)
    tower = "model.vision_tower.vision_tower.encoder."

    def stack(pattern: str, count: int) -> np.ndarray:
        return np.stack([source[pattern.format(i)] for i in range(count)])

    layers, blocks = model.llm.num_hidden_layers, model.vision.num_blocks
    llm, vision, projector = params["llm"], params["vision"], params["projector"]
    for name in ("q_proj", "k_proj", "v_proj"):
        ours = llm["layers"]["self_attn"][name]
        original = "model.layers.{}.self_attn." + name
        np.testing.assert_array_equal(
            ours["kernel"], stack(original + ".weight", layers).swapaxes(1, 2)
        )
        np.testing.assert_array_equal(ours["bias"], stack(original + ".bias", layers))
    np.testing.assert_array_equal(
        llm["layers"]["self_attn"]["o_proj"]["kernel"],
        stack("model.layers.{}.self_attn.o_proj.weight", layers).swapaxes(1, 2),
    )
    for name in ("gate_proj", "up_proj", "down_proj"):
        np.testing.assert_array_equal(
            llm["layers"]["mlp"][name]["kernel"],
            stack("model.layers.{}.mlp." + name + ".weight", layers).swapaxes(1, 2),
        )
    for name in ("input_layernorm", "post_attention_layernorm"):
        np.testing.assert_array_equal(
            llm["layers"][name]["scale"], stack("model.layers.{}." + name + ".weight", layers)
        )
    np.testing.assert_array_equal(llm["embed_tokens"]["embedding"], source[EMBED])
    np.testing.assert_array_equal(llm["norm"]["scale"], source[NORM])
    assert "lm_head" not in llm

    np.testing.assert_array_equal(
        vision["patch_embed"]["kernel"],
        np.moveaxis(source[tower + "patch_embed.proj.weight"][:, :, 0], (0, 1), (3, 2)),
    )
    np.testing.assert_array_equal(
        vision["patch_embed"]["bias"], source[tower + "patch_embed.proj.bias"]
    )
    for ours, original in (("norm1", "norm1"), ("norm2", "norm2")):
        for ours_kind, kind in (("scale", "weight"), ("bias", "bias")):
            np.testing.assert_array_equal(
                vision["blocks"][ours][ours_kind],
                stack(f"{tower}blocks.{{}}.{original}.{kind}", blocks),
            )
    attention = vision["blocks"]["attn"]
    np.testing.assert_array_equal(
        attention["qkv"]["kernel"],
        stack(tower + "blocks.{}.attn.qkv.weight", blocks).swapaxes(1, 2),
    )
    np.testing.assert_array_equal(
        attention["proj"]["kernel"],
        stack(tower + "blocks.{}.attn.proj.weight", blocks).swapaxes(1, 2),
    )
    for ours_path, original in (
        (attention["q_bias"], "attn.q_bias"),
        (attention["v_bias"], "attn.v_bias"),
        (attention["proj"]["bias"], "attn.proj.bias"),
        (vision["blocks"]["mlp"]["fc1"]["bias"], "mlp.fc1.bias"),
        (vision["blocks"]["mlp"]["fc2"]["bias"], "mlp.fc2.bias"),
    ):
        np.testing.assert_array_equal(ours_path, stack(tower + "blocks.{}." + original, blocks))
    for name in ("fc1", "fc2"):
        np.testing.assert_array_equal(
            vision["blocks"]["mlp"][name]["kernel"],
            stack(tower + "blocks.{}.mlp." + name + ".weight", blocks).swapaxes(1, 2),
        )
    for ours_kind, kind in (("scale", "weight"), ("bias", "bias")):
        np.testing.assert_array_equal(
            vision["norm"][ours_kind], source[f"{tower}vision_layernorm.{kind}"]
        )
    for ours, index in (("fc1", 0), ("fc2", 2)):
        np.testing.assert_array_equal(
            projector[ours]["kernel"], source[f"model.mm_projector.mlp.{index}.weight"].T
        )
        np.testing.assert_array_equal(
            projector[ours]["bias"], source[f"model.mm_projector.mlp.{index}.bias"]
        )
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == sum(
        array.size for array in source.values()
    )


def test_untied_head_is_transposed(tmp_path: Path) -> None:
    folder = torch_model.make(tmp_path / "m", tie_word_embeddings=False)
    _, params = load_torch_checkpoint(folder)
    head = load_file(folder / "model.safetensors")[HEAD]
    np.testing.assert_array_equal(params["llm"]["lm_head"]["kernel"], head.T)


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("wanted", ["float32", "float16", "bfloat16"])
def test_change_of_dtype_rounds_like_numpy(tmp_path: Path, stored: str, wanted: str) -> None:
    folder = torch_model.make(tmp_path / "m", torch_dtype=stored)
    model, params = load_torch_checkpoint(folder, dtype=wanted)
    kernel = params["llm"]["layers"]["self_attn"]["q_proj"]["kernel"]
    original = load_file(folder / "model.safetensors")[Q_PROJ]
    types = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}
    assert kernel.dtype == types[wanted]
    assert kernel[1].tobytes() == np.ascontiguousarray(original.T.astype(types[wanted])).tobytes()
    assert model.dtype == ("bfloat16" if wanted == "bfloat16" else "float32")


def test_shards_and_one_file_give_the_same(tmp_path: Path) -> None:
    one = load_torch_checkpoint(torch_model.make(tmp_path / "one"))
    many = load_torch_checkpoint(torch_model.make(tmp_path / "many", shards=5))
    other = load_torch_checkpoint(torch_model.make(tmp_path / "other", seed=1))
    assert one[0] == many[0]
    jax.tree.map(np.testing.assert_array_equal, one[1], many[1])
    with pytest.raises(AssertionError):
        jax.tree.map(np.testing.assert_array_equal, one[1], other[1])


def test_overrides_and_another_config(source: Path) -> None:
    settings = torch_model.config(vocab_size=30, tie_word_embeddings=False)
    table = np.arange(240, dtype=np.float32).reshape(30, 8)
    model, params = load_torch_checkpoint(
        source, config=settings, overrides={EMBED: table, HEAD: table + 1}
    )
    assert model.llm.vocab_size == 30
    np.testing.assert_array_equal(params["llm"]["embed_tokens"]["embedding"], table)
    np.testing.assert_array_equal(params["llm"]["lm_head"]["kernel"], (table + 1).T)
    with pytest.raises(ConversionError, match="wrong shape"):
        load_torch_checkpoint(source, config=settings, overrides={HEAD: table})


def test_a_checkpoint_of_ours_has_everything(source: Path) -> None:
    out = source.parent / "out"
    convert_from_torch(str(source), out, compression=CompressionConfig(schedule="none"))
    model, params = load_params(out)
    expected_model, expected = load_torch_checkpoint(
        source, compression=CompressionConfig(schedule="none")
    )
    assert model == expected_model
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    for name, text in torch_model.COMPANIONS.items():
        assert (out / name).read_text() == text
    values = json.loads((out / "config.json").read_text())
    assert values["source"]["hf_config"] == torch_model.CONFIG
    card = (out / "README.md").read_text()
    assert values["source"]["files"][0]["sha256"] in card
    assert str(source) in card
    assert "llm.hidden_size | 8" in card


def test_a_tied_head_that_was_saved_too_is_accepted_when_it_is_a_copy(source: Path) -> None:
    table = load_file(source / "model.safetensors")[EMBED].copy()
    rewrite(source, **{HEAD: table})
    _, params = load_torch_checkpoint(source)
    assert "lm_head" not in params["llm"]
    table[3, 4] = np.nextafter(table[3, 4], np.float32(9))
    rewrite(source, **{HEAD: table})
    assert refusal(source) == [
        f"{HEAD!r} differs from {EMBED!r}, but the configuration ties them (tie_word_embeddings "
        "true)"
    ]


# --- refusals: tensors -------------------------------------------------------------------------


def test_missing_tensor(source: Path) -> None:
    rewrite(source, **{Q_PROJ: None})
    assert refusal(source) == [f"missing: {Q_PROJ!r} (8, 8)"]


def test_unexpected_tensor(source: Path) -> None:
    rewrite(source, **{"model.image_newline": np.zeros(8, np.float32)})
    assert refusal(source) == [
        "unexpected: 'model.image_newline' (8,) in model.safetensors, no rule for it"
    ]


def test_block_beyond_the_configuration(source: Path) -> None:
    name = "model.layers.3.input_layernorm.weight"
    rewrite(source, **{name: np.ones(8, np.float32)})
    assert refusal(source) == [
        f"unexpected: {name!r} (8,) in model.safetensors, no such block in this configuration"
    ]


def test_wrong_shape(source: Path) -> None:
    rewrite(source, **{NORM: np.ones((8, 1), np.float32)})
    assert refusal(source) == [f"wrong shape: {NORM!r} is (8, 1), the configuration asks for (8,)"]


def test_wrong_dtype(source: Path) -> None:
    rewrite(source, **{NORM: np.ones(8, np.int64)})
    assert refusal(source) == [
        f"wrong dtype: {NORM!r} is I64, accepted are ['bfloat16', 'float16', 'float32']"
    ]


def test_mixed_dtypes_need_a_choice(source: Path) -> None:
    rewrite(source, **{NORM: np.ones(8, np.float16)})
    (problem,) = refusal(source)
    assert "{'float16': 1, 'float32': " in problem
    assert "choose one with --dtype" in problem
    load_torch_checkpoint(source, dtype="float32")


def test_dtype_that_contradicts_the_configuration(source: Path) -> None:
    configure(source, torch_dtype="bfloat16")
    assert refusal(source) == [
        "wrong dtype: the configuration says torch_dtype='bfloat16', the tensors are float32; "
        "choose with --dtype"
    ]
    load_torch_checkpoint(source, dtype="bfloat16")


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
def test_not_finite(tmp_path: Path, value: float, stored: str) -> None:
    source = torch_model.make(tmp_path / "source", torch_dtype=stored)
    weights = load_file(source / "model.safetensors")[Q_PROJ].copy()
    weights[2, 5] = weights[3, 1] = value
    rewrite(source, **{Q_PROJ: weights})
    assert refusal(source) == [f"not finite: {Q_PROJ!r} has 2 infinite or NaN values"]
    assert refusal(source, dtype="float32") == refusal(source)


def test_a_tensor_read_in_pieces_is_one_problem(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xcomp_jax.checkpoint.memory._PIECE_BYTES", 64)
    monkeypatch.setattr("xcomp_jax.checkpoint.stream._CHUNK_BYTES", 64)
    table = load_file(source / "model.safetensors")[EMBED].copy()
    table[::4, 1] = np.nan
    rewrite(source, **{EMBED: table})
    assert refusal(source) == [f"not finite: {EMBED!r} has 6 infinite or NaN values"]


def test_largest_finite_values_are_fine(tmp_path: Path) -> None:
    for stored, largest in (("float32", 3.4028235e38), ("float16", 65504), ("bfloat16", 3.38e38)):
        source = torch_model.make(tmp_path / stored, torch_dtype=stored)
        weights = load_file(source / "model.safetensors")[NORM].copy()
        weights[0], weights[1] = largest, -largest
        rewrite(source, **{NORM: weights})
        load_torch_checkpoint(source)


def test_overflow_of_a_narrower_dtype(source: Path) -> None:
    weights = load_file(source / "model.safetensors")[NORM].copy()
    weights[:3] = 1e6
    rewrite(source, **{NORM: weights})
    assert refusal(source, dtype="float16") == [
        f"overflow: 3 values of {NORM!r} (float32) are too large for float16; choose a wider "
        "--dtype"
    ]
    load_torch_checkpoint(source, dtype="bfloat16")


def test_all_problems_at_once(source: Path) -> None:
    weights = load_file(source / "model.safetensors")[EMBED].copy()
    weights[0, 0] = np.nan
    rewrite(
        source,
        **{
            Q_PROJ: None,
            NORM: np.ones(9, np.float32),
            "extra": np.ones(1, np.float32),
            "model.layers.0.input_layernorm.weight": np.ones(8, np.float64),
            EMBED: weights,
        },
    )
    problems = refusal(source)
    kinds = sorted(problem.split(":")[0] for problem in problems)
    assert kinds == ["missing", "not finite", "unexpected", "wrong dtype", "wrong shape"]


# --- refusals: files ---------------------------------------------------------------------------


def test_problems_of_configuration_and_weights_are_listed_together(source: Path) -> None:
    configure(source, hidden_act="gelu", rope_theta="big")
    raw = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(raw[:-8])
    problems = refusal(source)
    assert len(problems) >= 3
    assert any("hidden_act='gelu'" in problem for problem in problems)
    assert any("rope_theta='big'" in problem for problem in problems)
    assert any("lie outside" in problem for problem in problems)


def test_no_weights(source: Path) -> None:
    (source / "model.safetensors").unlink()
    (problem,) = refusal(source)
    assert "neither model.safetensors nor model.safetensors.index.json" in problem


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt"])
def test_pickles_are_never_opened(source: Path, name: str) -> None:
    (source / "model.safetensors").unlink()
    (source / name).write_bytes(b"cos\nsystem\n(S'touch broken'\ntR.")
    (problem,) = refusal(source)
    assert f"only pickled weights ['{name}']: opening a pickle runs whatever code is in it" in (
        problem
    )
    assert not Path("broken").exists()


def test_pickles_beside_safetensors_do_no_harm(source: Path) -> None:
    (source / "pytorch_model.bin").write_bytes(b"anything")
    (source / "modeling_own.py").write_text("raise SystemExit('executed')")
    out = source.parent / "out"
    convert_from_torch(str(source), out)
    assert not list(out.rglob("*.py"))
    assert not list(out.rglob("*.bin"))


def test_one_file_and_shards_together(tmp_path: Path) -> None:
    folder = torch_model.make(tmp_path / "m", shards=2)
    shutil.copy(torch_model.make(tmp_path / "one") / "model.safetensors", folder)
    (problem,) = refusal(folder)
    assert "both model.safetensors and model.safetensors.index.json" in problem


INDEX = "model.safetensors.index.json"


def edit_index(folder: Path, change: Any) -> None:
    path = folder / INDEX
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


def test_missing_shard(tmp_path: Path) -> None:
    folder = torch_model.make(tmp_path / "m", shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    (problem,) = refusal(folder)
    assert "shard 'model-00002-of-00003.safetensors' is missing" in problem


def test_index_that_contradicts_the_shards(tmp_path: Path) -> None:
    folder = torch_model.make(tmp_path / "m", shards=2)
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]

    def swap(names: dict[str, str]) -> None:
        files.sort(key=lambda file: file != names[NORM])
        names[NORM] = files[1]

    edit_index(folder, swap)
    (problem,) = refusal(folder)
    assert problem.endswith(f"{NORM!r}: the index says {files[1]}, found in {files[0]}")


def test_index_with_a_tensor_that_is_nowhere(tmp_path: Path) -> None:
    folder = torch_model.make(tmp_path / "m", shards=2)
    edit_index(folder, lambda names: names.update(ghost="model-00001-of-00002.safetensors"))
    (problem,) = refusal(folder)
    assert "'ghost': the index says model-00001-of-00002.safetensors, found in none" in problem


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/x.safetensors", "model.bin", ""])
def test_index_that_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = torch_model.make(tmp_path / "m", shards=2)
    edit_index(folder, lambda names: names.update({NORM: name}))
    (problem,) = refusal(folder)
    assert f"{name!r} is not the name of a safetensors file here" in problem


@pytest.mark.parametrize("text", ["[]", "{", '{"weight_map": {}}', '{"weight_map": 3}'])
def test_index_that_is_no_index(tmp_path: Path, text: str) -> None:
    folder = torch_model.make(tmp_path / "m", shards=2)
    (folder / INDEX).write_text(text)
    (problem,) = refusal(folder)
    assert INDEX in problem


def test_tensor_in_two_files(tmp_path: Path) -> None:
    folder = torch_model.make(tmp_path / "m", shards=2)
    second = folder / "model-00002-of-00002.safetensors"
    values = load_file(second)
    first = load_file(folder / "model-00001-of-00002.safetensors")
    name = next(iter(first))
    save_file({**values, name: first[name]}, second)
    problems = refusal(folder)
    assert any(f"{name!r} is in two files" in problem for problem in problems)


def test_missing_configuration(source: Path) -> None:
    (source / "config.json").unlink()
    (problem,) = refusal(source)
    assert "config.json: no such file" in problem


# --- refusals: places --------------------------------------------------------------------------


def test_source_that_is_not_there(tmp_path: Path) -> None:
    for name, message in (
        (str(tmp_path / "nowhere"), "no such folder, and not a hub id"),
        ("owner/name", "needs --revision with a full commit"),
    ):
        with pytest.raises(ConversionError, match=message):
            convert_from_torch(name, tmp_path / "out")
    with pytest.raises(ConversionError, match=r"needs --revision .* got 'main'"):
        convert_from_torch("owner/name", tmp_path / "out", revision="main")


def test_source_that_is_a_file(source: Path) -> None:
    with pytest.raises(ConversionError, match="is a file: give the folder"):
        convert_from_torch(str(source / "model.safetensors"), source.parent / "out")


def test_not_enough_disk(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        "xcomp_jax.convert.files.shutil.disk_usage", lambda path: usage(10**9, 0, 10**6)
    )
    (problem,) = refusal(source)
    assert "not enough disk" in problem
    assert "1000000 are free" in problem
    monkeypatch.setattr(
        "xcomp_jax.convert.files.shutil.disk_usage", lambda path: usage(10**9, 0, 10**8)
    )
    convert_from_torch(str(source), source.parent / "out")


def test_an_existing_folder_is_kept_unless_forced(source: Path) -> None:
    out = source.parent / "out"
    convert_from_torch(str(source), out)
    before = (out / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match="exists already"):
        convert_from_torch(str(source), out, dtype="bfloat16")
    assert (out / "config.json").read_bytes() == before
    convert_from_torch(str(source), out, dtype="bfloat16", overwrite=True)
    assert load_params(out)[0].dtype == "bfloat16"
    assert sorted(entry.name for entry in source.parent.iterdir()) == ["out", "source"]


def test_a_refused_conversion_keeps_the_old_checkpoint(source: Path) -> None:
    out = source.parent / "out"
    convert_from_torch(str(source), out)
    before = load_params(out)[1]["llm"]["norm"]["scale"]
    rewrite(source, **{NORM: np.full(8, np.nan, np.float32)})
    with pytest.raises(ConversionError):
        convert_from_torch(str(source), out, overwrite=True)
    np.testing.assert_array_equal(load_params(out)[1]["llm"]["norm"]["scale"], before)


def test_force_never_replaces_something_else(source: Path) -> None:
    precious = source.parent / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    with pytest.raises(CheckpointError, match=r"has no config\.json and is no checkpoint"):
        convert_from_torch(str(source), precious, overwrite=True)
    assert (precious / "thesis.txt").read_text() == "years"


def test_exit_codes_and_messages(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = source.parent / "out"
    assert main(["from_torch", str(source), str(out)]) == 0
    assert main(["from_torch", str(source), str(out)]) == 1
    assert "exists already" in capsys.readouterr().err
    rewrite(source, **{Q_PROJ: None})
    assert main(["from_torch", str(source), str(out), "--force"]) == 1
    assert f"missing: {Q_PROJ!r}" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["from_torch", str(source)])
    assert caught.value.code == 2
