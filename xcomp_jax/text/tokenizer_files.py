"""Writes the files of a tokenizer: those it was loaded from, unchanged, wherever possible."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Protocol

from xcomp_jax.text.tokenizer import TOKENIZER_FILES, load_tokenizer

# What encoding a batch leaves behind in the tokenizer.
_STATE = ("padding", "truncation")


class SavableTokenizer(Protocol):
    """A tokenizer that writes its files to a folder, such as those of `transformers`."""

    def save_pretrained(self, save_directory: str, /) -> Any: ...


def write_tokenizer(tokenizer: SavableTokenizer, folder: Path) -> None:
    """Writes the files of `tokenizer` to `folder`, for all versions of transformers from 4.40 on.

    An unchanged tokenizer of `load_tokenizer` is copied file by file, because transformers 5 writes
    files that earlier versions cannot read. Any other is written by its `save_pretrained`.
    """
    sources = _source_files(str(getattr(tokenizer, "name_or_path", "")))
    if sources and _is_unchanged(tokenizer):
        for path in sources:
            shutil.copyfile(path, folder / path.name)
        return
    tokenizer.save_pretrained(str(folder))
    _rename_class(folder / "tokenizer_config.json")


def _source_files(name: str) -> list[Path]:
    """Returns the tokenizer files of a folder, or of a hub id in the hub cache."""
    if not name:
        return []
    if Path(name).is_dir():
        paths = [Path(name) / file for file in TOKENIZER_FILES]
        return [path for path in paths if path.is_file()]
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = [try_to_load_from_cache(name, file) for file in TOKENIZER_FILES]
    except HFValidationError:  # A folder that does not exist any more.
        return []
    return [Path(path) for path in cached if isinstance(path, str)]


def _is_unchanged(tokenizer: Any) -> bool:
    """Compares a tokenizer with what its files give now."""
    try:
        return _state(tokenizer) == _state(load_tokenizer(tokenizer.name_or_path))
    except ValueError:  # The files have gone or changed.
        return False


def _state(tokenizer: Any) -> tuple[Any, ...]:
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    for key in _STATE:
        core.pop(key, None)
    return core, tokenizer.chat_template, tokenizer.special_tokens_map


def _rename_class(path: Path) -> None:
    """Replaces names that transformers 5 introduced by those of version 4, which both read."""
    if not path.is_file():
        return
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.get("tokenizer_class") != "TokenizersBackend":
        return
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings.pop("backend", None)
    if isinstance(settings.get("extra_special_tokens"), list):
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
