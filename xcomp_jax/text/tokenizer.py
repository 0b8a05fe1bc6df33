"""Loads a tokenizer from disk or the Hugging Face hub, or builds a small one without any file."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xcomp_jax.text.chatml import END, START, ChatIds

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAD = "<|endoftext|>"

TOKENIZER_FILES = (
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""Files of a tokenizer, as far as a folder has them."""

SCAFFOLD_WORDS = """
    user assistant system You are a helpful
    The the video lasts for seconds and frames uniformly sampled from at it
    Question Options Option Answer Only give best option with letter given choices directly
    only correct of Respond s
"""
TASK_WORDS = """
    What Which How many When Where Who does do is are was the a an in on to or shape shapes
    color colour object objects move moves moving appear appears flash flashes first last briefly
    direction left right up down diagonally still red green blue yellow white black gray orange
    purple cyan magenta square circle triangle cross ring bar star background early middle late
    never once twice times yes no Yes No before after during both none one two three four five six
    seven eight nine zero way A B C D E F G H
"""
WORDS = tuple(dict.fromkeys((SCAFFOLD_WORDS + TASK_WORDS).split()))
"""Words encoded as one token, with and without a leading space; all others become bytes."""

SPACE = "\u0120"
"""Symbol of a space in the byte-level scheme, which maps every byte to a printable character."""

PUNCTUATION = tuple(".,?:;!'()-")

PIECE = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]|\s"
"""Pre-tokenisation: a word or sign with the space before it, one digit, one space or newline."""


@contextlib.contextmanager
def _warnings_disabled() -> Iterator[None]:
    """Hides warnings of transformers: PyTorch is missing, and that is intended; and the regular
    expression of a Qwen2 tokenizer is wrong, which it is not."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def load_tokenizer(name_or_path: str | None) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a local folder or a hub name; None gives the built-in one.

    Raises:
        ValueError: there is no tokenizer, or it is not a ChatML tokenizer.
    """
    if name_or_path is None:
        return builtin_tokenizer()
    with _warnings_disabled():
        from transformers import AutoTokenizer  # Imported here because it takes 1.5 s.

    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        source, local = str(folder.absolute()), True
    elif re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name_or_path):
        source, local = name_or_path, False
    else:
        raise ValueError(
            f"tokenizer {name_or_path!r}: no such folder, and not a hub name such as "
            "'Qwen/Qwen2.5-1.5B-Instruct'; use a folder with tokenizer.json, or with vocab.json "
            "and merges.txt"
        )
    try:
        with _warnings_disabled():
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
        ChatIds.of(tokenizer)
    except Exception as error:  # A damaged file raises errors of any type.
        advice = (
            _folder_advice(folder)
            if local
            else "there is no local folder of that name; download the tokenizer and use its folder"
        )
        raise ValueError(
            f"tokenizer {name_or_path!r} cannot be loaded ({_first_line(error)}): {advice}"
        ) from error
    return tokenizer


def _folder_advice(folder: Path) -> str:
    names = [name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if "tokenizer.json" in names or {"vocab.json", "merges.txt"} <= set(names):
        return f"one of its files is damaged, or it is another tokenizer ({', '.join(names)})"
    found = ", ".join(names) or "none of them"
    return f"the folder needs tokenizer.json, or vocab.json and merges.txt; it has {found}"


def builtin_tokenizer() -> PreTrainedTokenizerBase:
    """Builds a ChatML tokenizer of about 500 tokens that needs no file and no training.

    Every byte is a token, so any text decodes to itself. In addition, each word of the prompt and
    of the generated task is one token. The ids follow from the lists above; changing the lists
    invalidates weights trained with them.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    with _warnings_disabled():
        from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [form for word in WORDS for form in (word, SPACE + word)]
    words += [SPACE + sign for sign in PUNCTUATION]
    tokens = dict.fromkeys([PAD, START, END, *alphabet, *words])
    vocabulary = {token: number for number, token in enumerate(tokens)}
    # Without merges, a piece is either one vocabulary entry or split into single bytes.
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(text, special=True) for text in (PAD, START, END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START, END],
        clean_up_tokenization_spaces=False,
    )


def _first_line(error: Exception) -> str:
    """Returns the first line of a message, without the list that transformers opens at its end."""
    line = (str(error).strip().splitlines() or [""])[0]
    return line.removesuffix(":").removesuffix(" from one of") or type(error).__name__
