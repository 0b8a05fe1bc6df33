"""Saved tokenizers: the files they came from, unchanged, and names that transformers 4 knows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from xcomp_jax.text.chatml import encode
from xcomp_jax.text.tokenizer import TOKENIZER_FILES, builtin_tokenizer, load_tokenizer
from xcomp_jax.text.tokenizer_files import write_tokenizer

TEXT = "<|im_start|>user\nWhich colour, réd or 12?<|im_end|>\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Writes a Qwen2 tokenizer in the older form, without tokenizer.json."""
    from tokenizers import pre_tokenizers

    folder = tmp_path / "source"
    folder.mkdir()
    word = "assistant"
    pieces = [word[:end] for end in range(2, len(word) + 1)]
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *pieces]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    added = {text: len(tokens) + number for number, text in enumerate(special)}
    merges = [f"{piece[:-1]} {piece[-1]}" for piece in pieces]
    entry = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "additional_special_tokens": special[1:],
        "chat_template": "{{ messages }}",
        "added_tokens_decoder": {
            str(number): {"content": text, "special": True, **entry}
            for text, number in added.items()
        },
    }
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    (folder / "added_tokens.json").write_text(json.dumps(added, indent=7))
    (folder / "special_tokens_map.json").write_text('{"eos_token":   "<|im_end|>"}')
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "tokenization_own.py").write_text("raise SystemExit('executed')")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write(tokenizer: object, folder: Path) -> Path:
    folder.mkdir()
    write_tokenizer(tokenizer, folder)  # type: ignore[arg-type]
    return folder


def test_loaded_tokenizer_is_saved_unchanged(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    tokenizer = load_tokenizer(source.name)
    monkeypatch.chdir(tmp_path.parent)
    tokenizer(["a", "bb"], padding=True)  # Leaves a state behind, but is no change.
    saved = write(tokenizer, tmp_path / "saved")
    expected = contents(source)
    del expected["tokenization_own.py"]
    assert contents(saved) == expected
    again = write(load_tokenizer(str(saved)), tmp_path / "again")
    assert contents(again) == expected


def test_changed_tokenizer_keeps_its_change(source: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(source))
    tokenizer.add_tokens(["<frame>"])
    saved = load_tokenizer(str(write(tokenizer, tmp_path / "saved")))
    assert encode(saved, TEXT + "<frame>") == encode(tokenizer, TEXT + "<frame>")
    assert len(saved) == len(load_tokenizer(str(source))) + 1


def test_tokenizer_whose_source_is_gone_is_saved(source: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(source))
    source.rename(tmp_path / "moved")
    saved = load_tokenizer(str(write(tokenizer, tmp_path / "saved")))
    assert encode(saved, TEXT) == encode(tokenizer, TEXT)


def test_builtin_tokenizer_has_names_of_transformers_4(tmp_path: Path) -> None:
    """Version 4.40 knows neither TokenizersBackend nor a list of extra_special_tokens."""
    tokenizer = builtin_tokenizer()
    saved = write(tokenizer, tmp_path / "saved")
    settings = json.loads((saved / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert settings["additional_special_tokens"] == ["<|im_start|>", "<|im_end|>"]
    assert not {"backend", "extra_special_tokens"} & settings.keys()
    loaded = load_tokenizer(str(saved))
    assert encode(loaded, TEXT) == encode(tokenizer, TEXT)
    assert (loaded.pad_token_id, loaded.eos_token_id) == (0, 2)


def test_load_tokenizer_prints_nothing(source: Path) -> None:
    code = f"from xcomp_jax.text.tokenizer import load_tokenizer; load_tokenizer({str(source)!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout + run.stderr == ""


@pytest.mark.parametrize("name", sorted(set(TOKENIZER_FILES[:2]) | {"tokenizer_config.json"}))
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\0", b'{"a": []}'])
def test_load_tokenizer_damaged_file_is_one_paragraph(
    source: Path, name: str, content: bytes
) -> None:
    (source / name).write_bytes(content)
    try:
        load_tokenizer(str(source))
    except ValueError as error:
        message = str(error)
    else:
        assert name == "tokenizer_config.json"
        return
    assert "one of its files is damaged" in message
    assert "\n" not in message
    assert ":)" not in message


def test_load_tokenizer_lists_the_files_found(source: Path) -> None:
    (source / "merges.txt").unlink()
    with pytest.raises(ValueError, match=r"vocab\.json and merges\.txt; it has vocab\.json, add"):
        load_tokenizer(str(source))
