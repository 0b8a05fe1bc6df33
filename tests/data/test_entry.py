"""Entries of annotation files: the forms of several tools mean the same sample."""

from __future__ import annotations

from typing import Any

import pytest

from xcomp_jax.data.entry import EntryError, LeftOutError, entry_cut, entry_medium, entry_turns

QUESTION, ANSWER = "<image>\nWhat moves?", "A ball."
TURNS = ({"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER})
VIDEO_QUESTION = QUESTION.replace("<image>", "<video>")


@pytest.mark.parametrize(
    "entry",
    [
        {"video": "a.mp4", "conversations": list(TURNS)},
        {
            "video": "a.mp4",
            "conversations": [{"from": "human", "value": VIDEO_QUESTION}, TURNS[1]],
        },
        {
            "videos": ["a.mp4"],
            "images": [],
            "messages": [
                {"role": "user", "content": VIDEO_QUESTION},
                {"role": "assistant", "content": ANSWER},
            ],
        },
        {"videos": "a.mp4", "image": None, "messages": [TURNS[1], *TURNS]},
    ],
    ids=["llava", "video-mark", "swift", "leading-answer"],
)
def test_entry_forms_give_the_same_sample(entry: dict[str, Any]) -> None:
    assert entry_medium(entry) == ("video", "a.mp4")
    assert entry_turns(entry, "video") == TURNS


def test_entry_turns_video_mark_stays_where_it_is_text() -> None:
    """A mark of the image, two marks and an entry of an image keep `<video>` as text."""
    both = {"conversations": [{"from": "human", "value": "<image> Is <video> a tag?"}]}
    twice = {"conversations": [{"from": "human", "value": "<video><video>"}]}
    once = {"conversations": [{"from": "human", "value": "<video>"}]}
    assert entry_turns(both, "video") == tuple(both["conversations"])
    assert entry_turns(twice, "video") == tuple(twice["conversations"])
    assert entry_turns(once, "image") == tuple(once["conversations"])
    assert entry_turns(once, "video")[0]["value"] == "<image>"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"conversations": [{"from": "human", "value": "Hi?"}]}, "no image or video"),
        ({"videos": ["a", "b"], "messages": []}, "several images or videos"),
        ({"video": "a", "image": "b"}, "several images or videos"),
        ({"image": ["a"]}, "several images or videos"),
    ],
    ids=range(4),
)
def test_entry_medium_other_counts_are_left_out(entry: dict[str, Any], reason: str) -> None:
    with pytest.raises(LeftOutError, match=reason):
        entry_medium(entry)


@pytest.mark.parametrize(
    "entry",
    [
        {"video_path": "a.mp4", "conversations": [{"from": "human", "value": "Hi?"}]},
        {"clip": "a.mp4", "conversations": [{"from": "human", "value": QUESTION}]},
        {"QA": [{"q": "What?", "a": "This."}]},
        {"messages": [{"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}]},
    ],
    ids=["key", "mark", "no-turns", "parts"],
)
def test_entry_medium_misspelled_key_is_bad(entry: dict[str, Any]) -> None:
    with pytest.raises(EntryError, match=r"an entry has 'video' or 'image' .*this one has the"):
        entry_medium(entry)


def test_entry_turns_misspelled_key_is_bad() -> None:
    with pytest.raises(EntryError, match=r"no 'conversations'.*did you mean 'conversations'"):
        entry_turns({"video": "a.mp4", "conversation": list(TURNS)}, "video")


@pytest.mark.parametrize(
    ("start", "end", "cut"),
    [
        (1, "2.5", (1.0, 2.5)),
        ("00:00:01", "100:01:02.25", (1.0, 360062.25)),
        (None, None, (None, None)),
        (0, None, (None, None)),
    ],
)
def test_entry_cut_reads_seconds_and_clock_times(start: Any, end: Any, cut: Any) -> None:
    assert entry_cut({"start": start, "end": end}) == cut


@pytest.mark.parametrize("start", ["00:00:60", "1:30", "1 s", -1, True, float("nan"), [0], 5])
def test_entry_cut_other_times_are_bad(start: Any) -> None:
    with pytest.raises(EntryError, match="must be seconds or hh:mm:ss"):
        entry_cut({"start": start, "end": 5})
