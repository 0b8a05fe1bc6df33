"""The ChatML prompt around one video, as token ids, for asking and for training.

Ids hold one VIDEO_PLACEHOLDER where the visual tokens go. Asking and training differ by one
newline before the question: the original does so, and both are kept as recorded.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VIDEO_PLACEHOLDER = -200
IGNORE = -100

SYSTEM = "You are a helpful assistant."
START, END = "<|im_start|>", "<|im_end|>"
VIDEO_MARK = "<image>"
"""What stands for the video in a text; the original calls every visual input an image."""

NOISE = "QA_GT_caption_based_noisy"
"""Label left over in some public instruction data; the original removes it from every turn."""

VideoPosition = Literal["first", "last", "middle"]
"""Where the video stands in the first user turn. Published runs use "first"; the others are the
original's EXTRA_PARAM_IMAGE_LAST, which at "middle" asks the question before and after it."""


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
    """Ids of the ChatML scaffolding in one tokenizer."""

    newline: int
    start: int
    end: int
    assistant: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> ChatIds:
        """Raises ValueError if a piece of the scaffolding is not one token."""
        pieces = {"newline": "\n", "start": START, "end": END, "assistant": "assistant"}
        found = {}
        for name, text in pieces.items():
            ids = encode(tokenizer, text)
            if len(ids) != 1:
                raise ValueError(
                    f"the tokenizer splits {text!r} into {len(ids)} tokens {ids}; a ChatML "
                    "tokenizer (Qwen2 or Qwen2.5) has one, load that one"
                )
            found[name] = ids[0]
        return cls(**found)


# --- asking ------------------------------------------------------------------------------------


def question_text(question: str, time_message: str, video_position: VideoPosition = "first") -> str:
    """The first user message, video mark included."""
    told = f"{time_message.strip()} " if time_message.strip() else ""
    match video_position:
        case "first":
            return f"{VIDEO_MARK}\n{told}{question}"
        case "last":
            return f"{question}\n{told}{VIDEO_MARK}"
        case "middle":
            return f"{question} {VIDEO_MARK}\n{told}{question}"
        case _:
            raise ValueError(f"{video_position=} is not known; known: 'first', 'last', 'middle'")


def inference_text(
    question: str,
    time_message: str,
    history: Sequence[tuple[str, str]] = (),
    *,
    video_position: VideoPosition = "first",
) -> str:
    """The whole prompt as text, up to the open assistant header.

    `history` holds earlier (question, answer) pairs. Video and time message belong to the first
    question of the conversation only.
    """
    questions = [*(asked for asked, _ in history), question]
    turns = [Turn("system", SYSTEM)]
    for number, asked in enumerate(questions):
        first = number == 0
        content = question_text(asked, time_message, video_position) if first else asked
        turns.append(Turn("user", content))
        if number < len(history):
            turns.append(Turn("assistant", history[number][1]))
    return "".join(turn.text for turn in turns) + f"{START}assistant\n"


def inference_ids(
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    time_message: str,
    history: Sequence[tuple[str, str]] = (),
    *,
    video_position: VideoPosition = "first",
) -> list[int]:
    """Ids of `inference_text` with VIDEO_PLACEHOLDER at the video mark.

    Raises ValueError if a question or answer holds the video mark itself.
    """
    text = inference_text(question, time_message, history, video_position=video_position)
    if text.count(VIDEO_MARK) != 1:
        raise ValueError(
            f"questions and answers must not contain {VIDEO_MARK!r}, it stands for the video: "
            f"found {text.count(VIDEO_MARK) - 1} beside the one of the prompt; remove them"
        )
    return encode_with_video(tokenizer, text)


def answer_text(generated: str) -> str:
    """Generated text without the closing token and surrounding space."""
    return generated.strip().removesuffix(END).strip()


# --- training ----------------------------------------------------------------------------------


def training_turns(
    conversations: Sequence[Mapping[str, str]],
    time_message: str,
    *,
    video_position: VideoPosition = "first",
) -> list[Turn]:
    """The turns of an example (original: preprocess_multimodal), system turn not included.

    A video mark inside a turn moves to its start, then takes the time message with it. Turns are
    {"from": "human" | "gpt", "value": ...} or {"role": "user" | "assistant", "content": ...}.
    """
    return [
        Turn(_role(entry), _with_time(_content(entry), time_message, video_position))
        for entry in conversations
    ]


def training_example(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Mapping[str, str]],
    time_message: str,
    *,
    video_position: VideoPosition = "first",
) -> tuple[list[int], list[int]]:
    """(input_ids, labels) of one conversation (original: preprocess_qwen), of equal length.

    Labels keep the answers, header and closing included, and every newline, <|im_start|> and
    <|im_end|> of the prompt: a quirk of the original. The rest is IGNORE. An answer that opens the
    conversation is dropped. Raises ValueError for more than one video mark or no turn at all.
    """
    turns = training_turns(conversations, time_message, video_position=video_position)
    if turns and turns[0].role != "user":
        turns = turns[1:]
    if not turns:
        raise ValueError("a conversation needs at least one turn after a leading answer is dropped")
    marks = sum(turn.content.count(VIDEO_MARK) for turn in turns)
    if marks > 1:
        raise ValueError(f"an example holds at most one {VIDEO_MARK!r}, this one has {marks}")
    input_ids: list[int] = []
    answers: list[bool] = []
    for turn in (Turn("system", SYSTEM), *turns):
        ids = encode_with_video(tokenizer, turn.text)
        input_ids += ids
        answers += [turn.role == "assistant"] * len(ids)
    return input_ids, labels_of(input_ids, answers, ChatIds.of(tokenizer))


def as_asked(conversations: Sequence[Mapping[str, str]], time_message: str) -> list[dict[str, str]]:
    """The conversation from its first question on, that one worded as `question_text` words it.

    For `training_example` with no time message of its own: that then trains on the prompt that is
    asked with, letter by letter. Raises ValueError for what is no turn.
    """
    turns = [Turn(_role(entry), _content(entry)) for entry in conversations]
    asked = [*itertools.dropwhile(lambda turn: turn.role != "user", turns)]
    if asked:
        question = asked[0].content.replace(VIDEO_MARK, "").strip()
        asked[0] = Turn("user", question_text(question, time_message))
    return [dataclasses.asdict(turn) for turn in asked]


def labels_of(input_ids: Sequence[int], answers: Sequence[bool], chat: ChatIds) -> list[int]:
    """`input_ids` where `answers` is true or the token is scaffolding, IGNORE elsewhere."""
    always = (chat.newline, chat.start, chat.end)
    return [
        token if answer or token in always else IGNORE
        for token, answer in zip(input_ids, answers, strict=True)
    ]


def _role(entry: Mapping[str, str]) -> str:
    match entry.get("role", entry.get("from", "")):
        case "user" | "human":
            return "user"
        case "assistant" | "gpt":
            return "assistant"
        case "system":
            return "system"
        case given:
            raise ValueError(
                f"turn {dict(entry)!r} is of role {given!r}; "
                "known: human, gpt, user, assistant, system"
            )


def _content(entry: Mapping[str, str]) -> str:
    content = entry.get("content", entry.get("value"))
    if not isinstance(content, str):
        raise ValueError(f'turn {dict(entry)!r} has no text under "value" or "content"')
    content.encode()  # half a surrogate pair is a ValueError here, a TypeError in the tokenizer
    return content


def _with_time(content: str, time_message: str, video_position: VideoPosition) -> str:
    if content.count(VIDEO_MARK) == 1 and not content.startswith(VIDEO_MARK):
        content = f"{VIDEO_MARK}\n{content.replace(VIDEO_MARK, '').strip()}".strip()
    told = time_message.rstrip()
    if told:
        match video_position:
            case "first":
                mark = f"{VIDEO_MARK}{told} "
            case "last":
                mark = f"{told} {VIDEO_MARK}"
            case "middle":
                mark = f"{VIDEO_MARK}{told}"
            case _:
                raise ValueError(f"{video_position=} not known; known: 'first', 'last', 'middle'")
        content = content.replace(VIDEO_MARK, mark)
    return content.replace(NOISE, "")


# --- ids ---------------------------------------------------------------------------------------


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of `text` alone: special tokens written in it count, none are added around it."""
    return list(tokenizer.encode(text, add_special_tokens=False))


def encode_with_video(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of the pieces between video marks, each tokenised alone, VIDEO_PLACEHOLDER between."""
    pieces = [encode(tokenizer, piece) if piece else [] for piece in text.split(VIDEO_MARK)]
    ids = pieces[0]
    for piece in pieces[1:]:
        ids = [*ids, VIDEO_PLACEHOLDER, *piece]
    return ids


def split_at_video(ids: Sequence[int]) -> tuple[list[int], list[int]]:
    """(ids before, ids after) the one VIDEO_PLACEHOLDER; ValueError unless there is exactly one."""
    ids = list(ids)
    if ids.count(VIDEO_PLACEHOLDER) != 1:
        raise ValueError(
            f"expected exactly one video placeholder ({VIDEO_PLACEHOLDER}) among {len(ids)} ids, "
            f"found {ids.count(VIDEO_PLACEHOLDER)}"
        )
    place = ids.index(VIDEO_PLACEHOLDER)
    return ids[:place], ids[place + 1 :]


def first_conv_length(ids: Sequence[int], chat: ChatIds) -> int:
    """Ids before the first assistant header: system turn and first question, placeholder as one.

    Raises ValueError if there is no assistant header.
    """
    for place in range(len(ids) - 1):
        if ids[place] == chat.start and ids[place + 1] == chat.assistant:
            return place
    raise ValueError(f"no assistant header ({chat.start}, {chat.assistant}) among {len(ids)} ids")
