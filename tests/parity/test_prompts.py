"""Parity of `prompts`: prompts, token ids, label masks; ids need the recorded tokenizer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from tests.parity.cases import Case, GoldenError
from xcomp_jax.text.prompts import (
    IGNORE,
    VIDEO_PLACEHOLDER,
    ChatIds,
    VideoPosition,
    answer_text,
    encode,
    first_conv_length,
    inference_ids,
    inference_parts,
    labels_of,
    split_at_video,
    training_example,
    training_turns,
)
from xcomp_jax.video.sampling import Sampling, inference_indices, repeated_to, time_message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

pytestmark = pytest.mark.golden("prompts")

Row = dict[str, Any]


def recorded(case: Case, key: str) -> Any:
    for content in case.jsons().values():
        if isinstance(content, dict) and key in content:
            return content[key]
    raise GoldenError(f"{case.dir}: no JSON file holds {key!r}, it has {sorted(case.jsons())}")


def position(row: Row) -> VideoPosition:
    value = row["env"].get("EXTRA_PARAM_IMAGE_LAST", "").strip().lower()
    known: dict[str, VideoPosition] = {"": "first", "true": "last", "middle": "middle"}
    return known[value]


def question_and_message(row: Row) -> dict[str, Any]:
    """Returns the arguments of inference_parts, with the message recomputed from the video."""
    told = re.search(r"The video lasts for .*? sampled from it\.", row["prompt_text_decoded"])
    if told is None:
        raise GoldenError(f"no time message in {row['prompt_text_decoded']!r}")
    message = told[0]
    if "video" in row:
        env = {name: int(value) for name, value in row["env"].items() if value.isdigit()}
        total, fps = row["video"]["vlen"], row["video"]["fps"]
        least = env.get("EXTRA_OVERWRITE_MIN_NUM_FRAMES", 64)
        most = env.get("EXTRA_OVERWRITE_MAX_NUM_FRAMES", 512)
        sampling = Sampling(env.get("EXTRA_PARAM_FPS", 1), least, most)
        indices = repeated_to(inference_indices(total, fps, sampling), least)
        message = time_message(total / fps, len(indices))
    contents = [turn["content"] for turn in row["chat_history"] or []]
    asked = [text.removeprefix(f"<image>\n{message.strip()} ") for text in contents[::2]]
    return {
        "question": row["user_prompt"],
        "time_message": message,
        "history": list(zip(asked, contents[1::2], strict=True)),
        "video_position": position(row),
    }


def chat_ids(case: Case) -> ChatIds:
    """Reads the ids of the chat template from the recording."""
    pieces = {entry["text"]: entry["ids"] for entry in recorded(case, "tokenizer_pieces")}
    row = recorded(case, "inference")[0]
    header = row["first_conv_length"][0]
    start, assistant = row["input_ids"][header : header + 2]
    return ChatIds(pieces["\n"][0], start, pieces["<|im_end|>"][0], assistant)


def in_answers(ids: Sequence[int], chat: ChatIds) -> list[bool]:
    """Marks tokens from an assistant header to the newline after its end."""
    inside, flags = False, []
    for place, token in enumerate(ids):
        if token == chat.start:
            inside = ids[place + 1] == chat.assistant
        flags.append(inside)
    return flags


# --- without a tokenizer -----------------------------------------------------------------------


def test_prompts_recorded_inference_equal_text(case: Case) -> None:
    for row in recorded(case, "inference"):
        arguments = question_and_message(row)
        assert "".join(inference_parts(**arguments)) == row["prompt_text_decoded"]
        # Control: the newline training puts before the question.
        arguments["question"] = "\n" + arguments["question"]
        assert "".join(inference_parts(**arguments)) != row["prompt_text_decoded"]


def test_prompts_recorded_training_equal_text(case: Case) -> None:
    for row in recorded(case, "training"):
        turns = training_turns(row["conversations"], row["time_msg"], video_position=position(row))
        expected = [turn["value"] for turn in row["after_preprocess_multimodal"]]
        assert [turn.content for turn in turns] == expected
        if row["time_msg"].strip() and any("<image>" in text for text in expected):
            asked = training_turns(row["conversations"], row["time_msg"].strip())
            assert [turn.content for turn in asked] != expected  # Control: asking's wording.


def test_labels_recorded_ids_equal_rule(case: Case) -> None:
    chat = chat_ids(case)
    for row in recorded(case, "training"):
        ids = row["input_ids"]
        answers = in_answers(ids, chat)
        labels = labels_of(ids, answers, chat)
        assert labels == row["labels"]
        assert sum(label != IGNORE for label in labels) == row["n_label_tokens"]
        plain = [token if answer else IGNORE for token, answer in zip(ids, answers, strict=True)]
        assert plain != row["labels"]  # Control: only the answers.


def test_prompts_recorded_header_position_equal(case: Case) -> None:
    chat = chat_ids(case)
    rows = recorded(case, "inference") + recorded(case, "training")
    for row in rows:
        assert [first_conv_length(row["input_ids"], chat)] == row["first_conv_length"]
        place = row["image_placeholder_index"]
        if place is None:
            with pytest.raises(ValueError, match="exactly one video placeholder"):
                split_at_video(row["input_ids"])
            continue
        before, after = split_at_video(row["input_ids"])
        assert len(before) == place
        assert [*before, VIDEO_PLACEHOLDER, *after] == row["input_ids"]


def test_answer_recorded_text_cleaned(case: Case) -> None:
    for row in recorded(case, "inference"):
        returned = row["returned_text_for_generated"]
        assert answer_text(returned["generated"]) == returned["text"]


# --- with the tokenizer of the recording -------------------------------------------------------


def test_tokenizer_recorded_properties_equal(
    case: Case, tokenizer: PreTrainedTokenizerBase
) -> None:
    for entry in recorded(case, "tokenizer_pieces"):
        assert encode(tokenizer, entry["text"]) == entry["ids"]
    for entry in recorded(case, "length_of_time_message_tokens"):
        assert len(encode(tokenizer, entry["text"])) == entry["n"]
    facts = recorded(case, "tokenizer")
    found = {"n_tokens": len(tokenizer), "pad": tokenizer.pad_token_id}
    assert found == {name: facts[name] for name in found}
    assert tokenizer.eos_token_id == facts["eos"]
    assert ChatIds.of(tokenizer) == chat_ids(case)


def test_prompts_recorded_inference_equal_ids(
    case: Case, tokenizer: PreTrainedTokenizerBase
) -> None:
    for row in recorded(case, "inference"):
        arguments = question_and_message(row)
        assert inference_ids(tokenizer, **arguments) == row["input_ids"]
        # Control: question joined to the message as in training.
        arguments["question"] = "\n" + arguments["question"]
        assert inference_ids(tokenizer, **arguments) != row["input_ids"]


def test_inference_ids_every_added_token_is_text(
    case: Case, tokenizer: PreTrainedTokenizerBase
) -> None:
    added, chat = tokenizer.get_added_vocab(), chat_ids(case)
    assert len(added) > 15
    question = "".join(added) + "".join(f"{mark[:3]}{mark}{mark[3:]}" for mark in added)
    ids = inference_ids(tokenizer, question, "")
    assert [i for i in ids if i in added.values()] == [chat.start, chat.end] * 2 + [chat.start]
    assert set(added.values()) <= set(encode(tokenizer, question))  # Control: marks are parsed.


def test_prompts_recorded_training_equal_ids(
    case: Case, tokenizer: PreTrainedTokenizerBase
) -> None:
    for row in recorded(case, "training"):
        ids, labels = training_example(
            tokenizer, row["conversations"], row["time_msg"], video_position=position(row)
        )
        assert ids == row["input_ids"]
        assert labels == row["labels"]
        other = [{**turn, "value": turn["value"] + " "} for turn in row["conversations"]]
        assert training_example(tokenizer, other, row["time_msg"])[0] != row["input_ids"]  # Control


def test_examples_recorded_collator_equal(case: Case, tokenizer: PreTrainedTokenizerBase) -> None:
    """Compares the rows of the original's collator, without padding, with our examples."""
    batch = recorded(case, "collator")
    ours = [
        training_example(
            tokenizer, row["conversations"], row["time_msg"], video_position=position(row)
        )
        for row in recorded(case, "training")
    ]
    columns = (batch["input_ids"], batch["labels"], batch["attention_mask"])
    for ids, labels, mask in zip(*columns, strict=True):
        length = sum(mask)
        assert (ids[:length], labels[:length]) in ours
        assert set(ids[length:]) <= {batch["pad_token_id"]}
        assert set(labels[length:]) <= {IGNORE}
