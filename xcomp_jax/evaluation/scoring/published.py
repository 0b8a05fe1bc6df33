r"""Reads the option letter of an answer by the rules of the published evaluation, bug for bug.

Sources: `lmms-eval_videochat/lmms_eval/tasks/*/utils.py` of github.com/OpenGVLab/VideoChat-Flash;
the copies in github.com/ZheyuAqaZhang/XComp have the same rules. Every function returns the letter,
or an empty string if the rule finds none.

| answer | lvbench | videomme | perceptiontest | longvideobench |
|---|---|---|---|---|
| `b` | B | none | none | none |
| `Answer: D` | D | A | D | D |
| `It is a cat` | A | none | none | none |
| `A dog runs` | A | A | A | A |
| `B)` | B | B | B | none |
| `C. A man` | C | C | C | A |
| `A, B` | A | A | A | B |
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LABELLED = re.compile(r"^([A-E])\.\s*(.+)$", re.IGNORECASE)
LETTER = re.compile(r"\b([A-E])\b", re.IGNORECASE)
DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'

PERIOD = re.compile(r"(?!<=\d)\.(?!\d)")
PERIODS_REMOVED = 32
"""The code passes `re.UNICODE` (32) where `sub` expects a count."""

VIDEOMME_PREFIXES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    # A missing comma joins each of these pairs into one text, so that none of the four is removed.
    "The best option is" + "The correct option is",
    "Best answer:" + "Best option:",
)

STRIPPED = (",", ".", "!", "?", ";", ":", "'")
"""Characters that LongVideoBench strips from both ends, one after the other."""

MIN_WORDS_OF_CONTENT = 6
"""Words an answer needs before LongVideoBench looks for the text of an option in it."""


def lvbench_letter(answer: str) -> str:
    """Reads an answer as `mcq_acc` of LVBench, MLVU and MVBench: any case, A to E.

    The first stand-alone letter wins, so that the article of "It is a cat" is option A.
    """
    text = answer.strip()
    if labelled := LABELLED.match(text):
        return labelled[1].upper()
    text = text.replace("\n", " ").replace("\t", " ")
    spaced = [mark for mark in PUNCTUATION if f"{mark} " not in text and f" {mark}" not in text]
    if DIGIT_COMMA_DIGIT.search(text):
        spaced = []
    for mark in PUNCTUATION:
        text = text.replace(mark, " " if mark in spaced else "")
    text = PERIOD.sub("", text, PERIODS_REMOVED)
    letter = LETTER.search(text)
    return letter[1].upper() if letter else ""


def videomme_letter(answer: str) -> str:
    """Reads an answer as `extract_characters_regex` of Video-MME: the first capital A to D.

    The capital may stand anywhere, also at the beginning of the word "Answer".
    """
    text = answer.strip()
    for prefix in VIDEOMME_PREFIXES:
        text = text.replace(prefix, "")
    letter = re.search("[ABCD]", text)
    return letter[0] if letter else ""


def perceptiontest_letter(answer: str) -> str:
    """Reads an answer as PerceptionTest's validation task: the first stand-alone capital A to D."""
    letter = re.search(r"\b([A-D])\b", answer.strip())
    return letter[1] if letter else ""


def longvideobench_letter(answer: str, options: Sequence[str]) -> str:
    """Reads an answer as `parse_multi_choice_response` of LongVideoBench.

    Looks for "(X)", then for "X" before a space, then for "X.", then for the text of an option; of
    several hits the last one wins. Where this function returns an empty string, the published code
    chooses an option at random.
    """
    text = answer
    for mark in STRIPPED:
        text = text.strip(mark)
    text = f" {text} "
    letters = [chr(ord("A") + index) for index in range(len(options))]
    # (test for a letter, pattern whose last position decides between several letters)
    for test, position in (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")):
        found = [letter for letter in letters if test.format(letter) in text]
        if found:
            return max(found, key=lambda letter: text.rfind(position.format(letter)))
    if len(text.split()) < MIN_WORDS_OF_CONTENT:
        return ""
    contents = dict(zip(letters, (option.lower() for option in options), strict=True))
    found = [letter for letter in letters if contents[letter] in text.lower()]
    return max(found, key=lambda letter: text.lower().rfind(contents[letter]), default="")
