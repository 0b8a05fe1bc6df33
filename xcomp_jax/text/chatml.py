"""ChatML turns and their token ids; VIDEO_PLACEHOLDER stands for the visual tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VIDEO_PLACEHOLDER = -200
IGNORE = -100

SYSTEM = "You are a helpful assistant."
START, END = "<|im_start|>", "<|im_end|>"
VIDEO_MARK = "<image>"
"""Marks the position of the video in a text; the original uses this mark for all visual input."""

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

    @property
    def text(self) -> str:
        return f"{START}{self.role}\n{self.content}{END}\n"


@dataclasses.dataclass(frozen=True)
class ChatIds:
    """Token ids of the ChatML scaffolding in one tokenizer."""

    newline: int
    start: int
    end: int
    assistant: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> ChatIds:
        """Looks up the ids; ValueError if a piece of the scaffolding is not a single token."""
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


def encode_with_video(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Encodes the pieces between video marks separately, joined by VIDEO_PLACEHOLDER."""
    pieces = [encode(tokenizer, piece) if piece else [] for piece in text.split(VIDEO_MARK)]
    ids = pieces[0]
    for piece in pieces[1:]:
        ids = [*ids, VIDEO_PLACEHOLDER, *piece]
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
