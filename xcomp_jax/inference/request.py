"""Checks questions, videos and seeds before any work is done for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xcomp_jax.engine.encoder import ClipEncoder
from xcomp_jax.inference.encoded_video import EncodedVideo

SEED_LIMIT = 1 << 32
"""JAX keeps 32 bits of a seed, so that larger ones would repeat smaller ones."""


def check_question(question: object) -> None:
    """Checks the text of a question.

    Raises:
        TypeError: it is not a str.
        ValueError: it is empty or holds characters that are not Unicode text.
    """
    if not isinstance(question, str):
        raise TypeError(f"the question is of type {type(question).__name__}; pass a str")
    if not question.strip():
        raise ValueError("the question is empty; pass a text")
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the question has the character {question[error.start]!r} at position {error.start}, "
            "which is not valid Unicode text; write the question in UTF-8"
        ) from None


def check_length(ids: Sequence[int], limit: int) -> None:
    """Checks the number of tokens of the text after a video.

    Raises:
        ValueError: there are more than `limit`.
    """
    if len(ids) > limit:
        raise ValueError(
            f"the question, with the conversation before it, has {len(ids):,} tokens, more than "
            f"the limit of {limit:,} (GenerationConfig.max_text_tokens); shorten it, or start a "
            "new conversation"
        )


def check_video(video: object, encoder: ClipEncoder) -> None:
    """Checks that a video was encoded by `encoder`.

    Raises:
        TypeError: it is something else, such as a path.
        ValueError: it was encoded by another session, whose model may differ.
    """
    if not isinstance(video, EncodedVideo):
        raise TypeError(
            f"the video is of type {type(video).__name__}; pass the result of Session.encode_video"
        )
    if video.clips.encoder is not encoder:
        raise ValueError(
            f"{video.name} was encoded by another session; encode it by the session that answers"
        )


def question_list(questions: Iterable[str]) -> list[str]:
    """Returns several questions as a list.

    Raises:
        TypeError: `questions` is a single str.
    """
    if isinstance(questions, str):
        raise TypeError("questions is a str; pass a list of questions, or use Session.ask")
    return list(questions)


def check_seed(seed: object) -> None:
    """Checks a random seed.

    Raises:
        ValueError: it is not an integer from 0 to 2^32 - 1.
    """
    if not isinstance(seed, int) or not 0 <= seed < SEED_LIMIT:
        raise ValueError(f"{seed=} must be an integer from 0 to {SEED_LIMIT - 1}")
