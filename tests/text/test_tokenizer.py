"""Tests the built-in tokenizer: lossless decoding, one token per known word, save and load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xcomp_jax.text.prompts import ChatIds, encode, inference_ids
from xcomp_jax.text.tokenizer import WORDS, builtin_tokenizer, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER = builtin_tokenizer()

REQUIRED = """
    user assistant system Question Options Answer What Which How many When Where does do is the
    shape color object move moves moving appear appears flash flashes first last briefly direction
    video left right up down red green blue yellow white square circle triangle cross ring bar early
    middle late never once twice yes no before after both none one two three four zero A B C D
"""


def test_builtin_tokenizer_is_small_with_special_tokens() -> None:
    assert len(TOKENIZER) < 1024
    assert TOKENIZER.pad_token == "<|endoftext|>"
    assert TOKENIZER.eos_token == "<|im_end|>"
    special = [TOKENIZER.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<|im_end|>")]
    assert [[TOKENIZER.pad_token_id], *([i] for i in special)] == [
        encode(TOKENIZER, t) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    ]


@pytest.mark.parametrize("word", sorted({*REQUIRED.split(), *WORDS}))
def test_builtin_tokenizer_known_word_is_one_token(word: str) -> None:
    alone, spaced = encode(TOKENIZER, word), encode(TOKENIZER, f" {word}")
    assert len(alone) == len(spaced) == 1
    assert alone != spaced
    assert encode(TOKENIZER, f"{word}x") != alone  # Control: only the whole word


def test_builtin_tokenizer_signs_and_digits_are_single() -> None:
    for sign in ".,?:\n0123456789":
        assert len(encode(TOKENIZER, sign)) == 1
    assert len(encode(TOKENIZER, "1234")) == 4
    assert encode(TOKENIZER, "\n\n") == encode(TOKENIZER, "\n") * 2


def test_builtin_tokenizer_prompt_is_short() -> None:
    message = "\nThe video lasts for 8.00 seconds, and 64 frames are uniformly sampled from it. "
    assert len(encode(TOKENIZER, message.strip())) <= 25
    question = "Which shape flashes briefly?\nOptions:\nA. red circle\nB. blue bar\nAnswer:"
    assert len(inference_ids(TOKENIZER, question, message)) < 75


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_builtin_tokenizer_any_text_decodes_to_itself(text: str) -> None:
    assert TOKENIZER.decode(encode(TOKENIZER, text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  two  spaces \t\r\n",
        "it's <|im_start|>user\nno",
        "视频 🎬 e\u0301 é",
        "\x00\u2028",
    ],
)
def test_builtin_tokenizer_edge_cases_decode_unchanged(text: str) -> None:
    assert TOKENIZER.decode(encode(TOKENIZER, text)) == text


def test_builtin_tokenizer_ids_are_stable() -> None:
    assert builtin_tokenizer().get_vocab() == TOKENIZER.get_vocab()
    # Literal ids: a change would silently break checkpoints trained with this tokenizer.
    assert encode(TOKENIZER, "<|endoftext|><|im_start|><|im_end|>") == [0, 1, 2]
    assert encode(TOKENIZER, "The video: 7?\n") == [272, 277, 28, 223, 25, 33, 201]


def test_load_tokenizer_saved_folder_gives_equal_ids(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    text = "<|im_start|>user\nWhich colour, réd or 12?<|im_end|>\n"
    assert encode(loaded, text) == encode(TOKENIZER, text)
    assert loaded.decode(encode(loaded, text)) == text
    assert (loaded.pad_token_id, loaded.eos_token_id) == (0, 2)
    assert ChatIds.of(loaded) == ChatIds.of(TOKENIZER)
    assert encode(load_tokenizer(None), text) == encode(TOKENIZER, text)


def without(token: str) -> PreTrainedTokenizerBase:
    """Returns the built-in tokenizer with one special token renamed."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    text = TOKENIZER.backend_tokenizer.to_str().replace(token, "<other>")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(text))


def test_load_tokenizer_without_chatml_raises(tmp_path: Path) -> None:
    without("<|im_start|>").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"splits '<\|im_start\|>' into"):
        load_tokenizer(str(tmp_path))


def test_load_tokenizer_missing_names_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"the folder needs tokenizer\.json"):
        load_tokenizer(str(tmp_path))
    for name in (str(tmp_path / "nothing"), "./nothing", "a/b/c", "-x"):
        with pytest.raises(ValueError, match="no such folder, and not a hub name"):
            load_tokenizer(name)
