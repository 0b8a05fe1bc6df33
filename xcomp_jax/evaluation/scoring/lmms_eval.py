"""Reads the option letter of an answer by the rule that the tasks of lmms-eval share.

Source: `lmms_eval/tasks/_task_utils/mcq_extract.py` of github.com/EvolvingLMMs-Lab/lmms-eval,
commit 75571cfe (version 0.7.2). The file was rewritten after that commit; scores of later versions
can differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

STRIPPED = (",", ".", "!", "?", ";", ":", "'", '"')

FORMATS = (("({})", 6), ("{}.", 5), ("{}:", 4), ("{})", 3), ("{} ", 2))
"""Formats of a letter, with their rank."""

START, END, PHRASE, ANYWHERE = 10, 9, 7, 0
"""Ranks of the other formats."""

PHRASES = (
    *(f"{words}answer is" for words in ("", *("the ", "correct ", "the correct "))),
    *(f"{words}answer is" for words in ("best ", "the best ", "my ")),
    *(f"{words}option is" for words in ("correct ", "the correct ", "best ", "the best ")),
    *(f"{words}choice is" for words in ("", "the ", "correct ", "the correct ", "my ")),
    *("i choose", "i select", "i pick"),
    *("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
"""Phrases after whose first occurrence every letter counts."""


def lmms_eval_letter(answer: str, letters: Sequence[str]) -> str:
    """Returns the letter of the highest rank, the last one within a rank; empty without any."""
    text = answer.strip()
    for mark in STRIPPED:
        text = text.strip(mark)
    text = f" {text} "
    hits = list(_hits(text, letters))
    if not hits:
        hits = [(ANYWHERE, text.rfind(letter), letter) for letter in letters if letter in text]
    return max(hits, key=lambda hit: hit[:2])[2] if hits else ""


def _hits(text: str, letters: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Yields (rank, position, letter)."""
    for pattern, rank in FORMATS:
        for letter in letters:
            if (position := text.rfind(pattern.format(letter))) >= 0:
                yield rank, position, letter
    for phrase in PHRASES:
        if (start := text.lower().find(phrase)) < 0:
            continue
        for letter in letters:
            if (position := text.find(letter, start + len(phrase))) >= 0:
                yield PHRASE, position, letter
    bare = text.strip()
    for letter in letters:
        if bare.startswith(letter) and not bare[1:2].isalpha():
            yield START, 0, letter
        if bare.endswith(letter) and not bare[-2:-1].isalpha():
            yield END, len(text), letter
