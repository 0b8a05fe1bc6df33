"""ChatML turns and their token ids; VIDEO_PLACEHOLDER stands for the visual tokens."""

from __future__ import annotations

import dataclasses
import enum
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VIDEO_PLACEHOLDER = -200
IGNORE = -100

SYSTEM = "You are a helpful assistant."


class Mark(enum.StrEnum):
    """Parts of a prompt that become special tokens; the same characters in a text do not.

    VIDEO marks the position of the video; the original uses this mark for all visual input.
    """

    START = "<|im_start|>"
    END = "<|im_end|>"
    VIDEO = "<image>"


START, END, VIDEO_MARK = (mark.value for mark in Mark)

Part = Mark | str
"""A mark, or a piece of plain text."""

VideoPosition = Literal["first", "last", "middle"]
"""Position of the video in the first user turn. Published runs use "first"; the others are the
original's EXTRA_PARAM_IMAGE_LAST, where "middle" puts the question both before and after it."""


def unknown_position(video_position: object) -> ValueError:
    return ValueError(f"{video_position=} is not known; known: 'first', 'last', 'middle'")


@dataclasses.dataclass(frozen=True)
class Turn:
    """One message; `role` is "user", "assistant" or "system"."""

    role: str
    content: str


def turn_parts(role: str, content: Iterable[Part]) -> list[Part]:
    """Returns the parts of one turn, from its header to the newline after it."""
    return [Mark.START, f"{role}\n", *content, Mark.END, "\n"]


@dataclasses.dataclass(frozen=True)
class ChatIds:
    """Token ids of the ChatML scaffolding in one tokenizer."""

    newline: int
    start: int
    end: int
    assistant: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> ChatIds:
        """Looks up the ids.

        Raises:
            ValueError: a piece of the scaffolding is not a single token, or the tokenizer is a slow
                one, which cannot encode marks as text.
        """
        if not hasattr(tokenizer, "backend_tokenizer"):
            raise ValueError(
                f"{type(tokenizer).__name__} is not a fast tokenizer; load it with "
                "transformers.AutoTokenizer and use_fast=True"
            )
        pieces = {"newline": "\n", "start": START, "end": END, "assistant": "assistant"}
        single = {}
        for name, text in pieces.items():
            ids = encode(tokenizer, text)
            if len(ids) != 1:
                raise ValueError(
                    f"the tokenizer splits {text!r} into {len(ids)} tokens {ids}; use a ChatML "
                    "tokenizer (Qwen2 or Qwen2.5), where it is one token"
                )
            single[name] = ids[0]
        return cls(**single)


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Encodes `text`; special tokens written in it are recognised, none are added around it."""
    return list(tokenizer.encode(text, add_special_tokens=False))


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Encodes `text` as plain text: characters that spell an added token do not become it.

    Without such characters, the ids equal those of `encode`.
    """
    core = tokenizer.backend_tokenizer
    if core.normalizer is not None:
        text = core.normalizer.normalize_str(text)
    words = [(text, None)]
    if core.pre_tokenizer is not None:
        words = core.pre_tokenizer.pre_tokenize_str(text)
    return [token.id for word, _ in words for token in core.model.tokenize(word)]


def encode_parts(tokenizer: PreTrainedTokenizerBase, parts: Iterable[Part]) -> list[int]:
    """Encodes marks as their tokens, VIDEO as VIDEO_PLACEHOLDER, and all other parts as text.

    Neighbouring texts are encoded as one, because a token may span both.
    """
    chat = ChatIds.of(tokenizer)
    mark_ids = {Mark.START: chat.start, Mark.END: chat.end, Mark.VIDEO: VIDEO_PLACEHOLDER}
    ids: list[int] = []
    for is_mark, run in itertools.groupby(parts, lambda part: isinstance(part, Mark)):
        if is_mark:
            ids += [mark_ids[Mark(part)] for part in run]
        else:
            ids += encode_text(tokenizer, "".join(run))
    return ids


def split_at_video(ids: Sequence[int]) -> tuple[list[int], list[int]]:
    """Splits ids into those before and after the one VIDEO_PLACEHOLDER.

    Raises:
        ValueError: there is not exactly one.
    """
    ids = list(ids)
    if ids.count(VIDEO_PLACEHOLDER) != 1:
        raise ValueError(
            f"expected exactly one video placeholder ({VIDEO_PLACEHOLDER}) among {len(ids)} ids, "
            f"found {ids.count(VIDEO_PLACEHOLDER)}"
        )
    position = ids.index(VIDEO_PLACEHOLDER)
    return ids[:position], ids[position + 1 :]


def first_conv_length(ids: Sequence[int], chat: ChatIds) -> int:
    """Counts the ids before the first assistant header: system turn and first question.

    The placeholder counts as one. Named as in the original (docs/reference_behaviour.md#prompts).

    Raises:
        ValueError: there is no assistant header.
    """
    for position in range(len(ids) - 1):
        if ids[position] == chat.start and ids[position + 1] == chat.assistant:
            return position
    raise ValueError(f"no assistant header ({chat.start}, {chat.assistant}) among {len(ids)} ids")
