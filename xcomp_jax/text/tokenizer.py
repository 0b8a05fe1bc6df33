"""Tokenizers: one from disk or the Hugging Face hub, or a small one that is always at hand."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xcomp_jax.text.prompts import END, START, ChatIds

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAD = "<|endoftext|>"

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
"""Words that are one token, at the start of a text and after a space; all others are bytes."""

SPACE = "\u0120"
"""What the byte-level scheme writes for a space; every byte has such a printable stand-in."""

PUNCTUATION = tuple(".,?:;!'()-")

PIECE = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]|\s"
"""One piece: a word or a sign with the space before it, one digit, or one space or newline."""


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Importing transformers warns that there is no PyTorch, which is as intended."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def load_tokenizer(name_or_path: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder or a hub name; None is the built-in one.

    Raises ValueError if nothing is there, or if it is no ChatML tokenizer.
    """
    if name_or_path is None:
        return builtin_tokenizer()
    with _without_advice():
        from transformers import AutoTokenizer  # A second and a half, only for those who need it.

    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        source, local = str(folder), True
    elif re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name_or_path):
        source, local = name_or_path, False
    else:
        raise ValueError(
            f"tokenizer {name_or_path!r}: no such folder, and not a hub name such as "
            "'Qwen/Qwen2.5-1.5B-Instruct'; give a folder that holds tokenizer.json, or vocab.json "
            "and merges.txt"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
    except (OSError, ValueError) as error:
        advice = (
            "the folder should hold tokenizer.json, or vocab.json and merges.txt"
            if local
            else "no such folder here either; download it and give its folder"
        )
        raise ValueError(
            f"tokenizer {name_or_path!r} cannot be loaded ({_first_line(error)}): {advice}"
        ) from error
    ChatIds.of(tokenizer)
    return tokenizer


def builtin_tokenizer() -> PreTrainedTokenizerBase:
    """A ChatML tokenizer of about 500 tokens that needs no file and no training.

    Every byte is a token, so any text comes back as it was; on top, the words of the prompt and
    of the generated task are one token each. Ids follow from the lists above: changing those
    invalidates weights trained with it.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    with _without_advice():
        from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    longer = [form for word in WORDS for form in (word, SPACE + word)]
    longer += [SPACE + sign for sign in PUNCTUATION]
    tokens = dict.fromkeys([PAD, START, END, *alphabet, *longer])
    vocabulary = {token: number for number, token in enumerate(tokens)}
    # Without merges a piece is either a whole entry of the vocabulary or single bytes.
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
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
