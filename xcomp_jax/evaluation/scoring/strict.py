"""Reads the option letter of an answer only if it names exactly one option.

Accepted: a bare letter in any case ("b", "(C)", "D."), a letter followed by punctuation or a
bracket ("B, because ...", "c: run"), "answer is X" and the like, and the exact text of an option.
Not accepted: a letter that may be an article ("A dog runs"), and answers that name two options.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

OPENING, CLOSING = r"[(\[{\"'*]*", r"[)\]}\"'*]*"

LEADING = re.compile(rf"^{OPENING}([A-Za-z])(?:(?=[)\]}}\"'*]){CLOSING}|(?=[.,:;!?]|$))")
"""A letter at the start, before a bracket, punctuation or the end."""

DECLARED = re.compile(
    rf"\b(?:answer|option|choice)\b(?:\s+is\b)?\s*:?\s*{OPENING}([A-Za-z])(?![\w'\u2019-]){CLOSING}",
    re.IGNORECASE,
)

SECOND = re.compile(
    rf"^\s*(?:[,/&+.]|and\b|or\b)?\s*(?:and\b|or\b)?\s*{OPENING}[A-Z](?![\w'\u2019-])"
    rf"{CLOSING}\s*(?:[.,:;!?)]|and\b|or\b|$)"
)
"""Another letter right after the first one, as in "A, B" or "(A) or (B)"."""

ARTICLE = re.compile(r"^\s+(?!because\b)\w")
"""A word after the letter "A" or after a small letter, which is then an article or a word."""

LABEL = re.compile(r"^\(?([A-H])[.):]+\s*")
"""Letter that some benchmarks put before the text of an option."""


def strict_letter(answer: str, options: Sequence[str]) -> str:
    """Returns the letter of the only option that the answer names, else an empty string."""
    text = " ".join(answer.split())
    letters = [chr(ord("A") + index) for index in range(len(options))]
    named = _leading(text) or _declared(text)
    if named is None:
        named = _same_text(text, options, letters)
    return named if named in letters else ""


def option_text(option: str) -> str:
    """Returns an option without its letter, in one case and without spaces or final dots."""
    return " ".join(LABEL.sub("", option).casefold().split()).rstrip(".!?")


def _leading(text: str) -> str | None:
    """Returns a letter at the start, empty if another one follows, None without one."""
    match = LEADING.match(text)
    if not match:
        return None
    return "" if SECOND.match(text[match.end() :]) else match[1].upper()


def _declared(text: str) -> str | None:
    """Returns the letter after "answer is", empty if there are several, None without one."""
    found = set()
    for match in DECLARED.finditer(text):
        rest = text[match.end() :]
        is_word = match[1] == "A" or match[1].islower()
        if is_word and ARTICLE.match(rest):
            continue
        found.add("" if SECOND.match(rest) else match[1].upper())
    if not found:
        return None
    return found.pop() if len(found) == 1 else ""


def _same_text(text: str, options: Sequence[str], letters: Sequence[str]) -> str | None:
    """Returns the first option with the text of the answer."""
    for letter, option in zip(letters, options, strict=True):
        if option_text(option) and option_text(option) == option_text(text):
            return letter
    return None
