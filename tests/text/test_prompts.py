"""Tests prompts and labels with the built-in tokenizer; tests/parity compares recorded ids."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from xcomp_jax.text.prompts import (
    IGNORE,
    VIDEO_PLACEHOLDER,
    ChatIds,
    Turn,
    answer_text,
    as_inference_turns,
    encode,
    first_conv_length,
    inference_ids,
    inference_parts,
    labels_of,
    split_at_video,
    training_example,
    training_turns,
)
from xcomp_jax.text.tokenizer import builtin_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MESSAGE = "\nThe video lasts for 2.00 seconds, and 16 frames are uniformly sampled from it. "
HUMAN = {"from": "human", "value": "<image>\nWhat moves?"}
GPT = {"from": "gpt", "value": "a red circle\nA"}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return builtin_tokenizer()


def inference_text(*arguments: Any, **options: Any) -> str:
    return "".join(inference_parts(*arguments, **options))


def test_inference_parts_video_positions_by_hand() -> None:
    message = MESSAGE.strip()
    assert inference_text("Which?", MESSAGE) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n<image>\n{message} Which?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert f"user\nWhich?\n{message} <image><|im_end|>" in inference_text(
        "Which?", MESSAGE, video_position="last"
    )
    assert f"user\nWhich? <image>\n{message} Which?<|im_end|>" in inference_text(
        "Which?", MESSAGE, video_position="middle"
    )
    assert "user\n<image>\nWhich?<|im_end|>" in inference_text("Which?", "")


def test_inference_ids_history_has_video_once(tokenizer: PreTrainedTokenizerBase) -> None:
    first = inference_ids(tokenizer, "What moves?", MESSAGE)
    both = inference_ids(tokenizer, "And when?", MESSAGE, [("What moves?", "A bar.")])
    assert both[: len(first)] == first
    assert both.count(VIDEO_PLACEHOLDER) == 1
    rest = "A bar.<|im_end|>\n<|im_start|>user\nAnd when?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(both[len(first) :]) == rest


def test_inference_ids_decode_to_inference_parts(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = inference_ids(tokenizer, "Which colour?\n(A) réd", MESSAGE)
    before, after = split_at_video(ids)
    assert f"{tokenizer.decode(before)}<image>{tokenizer.decode(after)}" == inference_text(
        "Which colour?\n(A) réd", MESSAGE
    )


def test_training_example_second_video_mark_raises(tokenizer: PreTrainedTokenizerBase) -> None:
    second = {"from": "human", "value": "What is <image>?"}
    with pytest.raises(ValueError, match="at most one '<image>', this one has 2"):
        training_example(tokenizer, [HUMAN, GPT, second], MESSAGE)


def test_training_example_labels_by_hand(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = ChatIds.of(tokenizer)
    ids, labels = training_example(tokenizer, [HUMAN, GPT], MESSAGE)
    answer = "<|im_start|>assistant\na red circle\nA<|im_end|>\n"
    length = len(encode(tokenizer, answer))
    assert tokenizer.decode(ids[-length:]) == answer
    assert labels[-length:] == ids[-length:]
    kept = [label for label in labels[:-length] if label != IGNORE]
    assert set(kept) == {chat.newline, chat.start, chat.end}
    scaffolding = [token for token in ids[:-length] if token in kept]
    assert kept == scaffolding
    assert first_conv_length(ids, chat) == len(ids) - length


def test_labels_of_uses_ids_of_the_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = ChatIds.of(tokenizer)
    assert chat.newline != 198  # Qwen's id, hard-coded in the original
    ids, labels = training_example(tokenizer, [HUMAN, GPT], MESSAGE)
    is_answer = [label != IGNORE for label in labels]
    for wrong in (dataclasses.replace(chat, newline=198), dataclasses.replace(chat, start=9)):
        no_answers = [False] * len(ids)
        assert labels_of(ids, no_answers, wrong) != labels_of(ids, no_answers, chat)
    assert labels_of(ids, is_answer, chat) == labels


def test_training_turns_newline_before_question() -> None:
    (turn,) = training_turns([HUMAN], MESSAGE)
    assert turn == Turn("user", f"<image>{MESSAGE}\nWhat moves?")
    assert training_turns([HUMAN], MESSAGE, video_position="last")[0].content == (
        f"{MESSAGE}<image>\nWhat moves?"
    )
    assert training_turns([HUMAN], MESSAGE, video_position="middle")[0].content == (
        f"<image>{MESSAGE.rstrip()}\nWhat moves?"
    )
    assert training_turns([HUMAN], "")[0].content == HUMAN["value"]


def test_training_example_both_schemas_are_equal(tokenizer: PreTrainedTokenizerBase) -> None:
    other = [
        {"role": "user", "content": HUMAN["value"]},
        {"role": "assistant", "content": GPT["value"]},
    ]
    expected = training_example(tokenizer, [HUMAN, GPT], MESSAGE)
    assert training_example(tokenizer, other, MESSAGE) == expected
    assert training_example(tokenizer, [GPT, HUMAN, GPT], MESSAGE) == expected  # opening answer


@pytest.mark.parametrize(
    "leading", [[], [GPT], [{"from": "system", "value": "Be brief."}], [GPT, GPT]]
)
@pytest.mark.parametrize("spelling", [("from", "value"), ("role", "content")])
def test_as_inference_turns_leading_turns_are_dropped(
    tokenizer: PreTrainedTokenizerBase, leading: list[dict[str, str]], spelling: tuple[str, str]
) -> None:
    turns = [dict(zip(spelling, turn.values(), strict=True)) for turn in [*leading, HUMAN, GPT]]
    prompt = inference_ids(tokenizer, "What moves?", MESSAGE)
    ids, _ = training_example(tokenizer, as_inference_turns(turns, MESSAGE), "")
    assert ids[: len(prompt)] == prompt
    assert tokenizer.decode(ids[len(prompt) :]) == f"{GPT['value']}<|im_end|>\n"
    control, _ = training_example(tokenizer, turns, MESSAGE)
    assert control[: len(prompt)] != prompt


def test_prompts_invalid_conversation_raises(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match="at least one turn"):
        training_example(tokenizer, [GPT], MESSAGE)
    with pytest.raises(ValueError, match="of role 'bot'; known: human"):
        training_example(tokenizer, [{"from": "bot", "value": ""}], MESSAGE)
    with pytest.raises(ValueError, match='no text under "value"'):
        training_example(tokenizer, [{"from": "human"}], MESSAGE)
    with pytest.raises(ValueError, match="known: 'first', 'last', 'middle'"):
        training_turns([HUMAN], MESSAGE, video_position="top")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="known: 'first', 'last', 'middle'"):
        inference_text("Which?", MESSAGE, video_position="top")  # type: ignore[arg-type]


def test_split_at_video_needs_one_placeholder() -> None:
    assert split_at_video([5, -200, 6, 7]) == ([5], [6, 7])
    for ids in ([5, 6], [-200, 5, -200]):
        with pytest.raises(ValueError, match="exactly one video placeholder"):
            split_at_video(ids)


def test_first_conv_length_ends_at_assistant_header() -> None:
    chat = ChatIds(newline=1, start=2, end=3, assistant=4)
    assert first_conv_length([2, 9, -200, 2, 4, 1, 2, 4], chat) == 3
    with pytest.raises(ValueError, match="no assistant header"):
        first_conv_length([2, 9, 4, 2], chat)


def test_answer_text_strips_closing_token() -> None:
    assert answer_text(" B. <|im_end|>") == "B."
    assert answer_text("A <|im_end|> B") == "A <|im_end|> B"
