"""Tests parts of the server that need no server."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from xcomp_jax.cli.main import main
from xcomp_jax.config import SelectionConfig
from xcomp_jax.serving.answer_text import AnswerText
from xcomp_jax.serving.frame_request import FrameRequest
from xcomp_jax.serving.library import selection_of
from xcomp_jax.serving.memory import StateMemory
from xcomp_jax.text.prompts import answer_text, encode_text
from xcomp_jax.text.tokenizer import load_tokenizer


def test_answer_text_in_pieces_equals_whole() -> None:
    tokenizer, rng = load_tokenizer(None), np.random.default_rng(0)
    text = " \n a red ring, naïve \U0001f600 bars; then 三 stars stop. The end  "
    ids = encode_text(tokenizer, text)
    for _ in range(20):
        cuts = sorted({0, len(ids), *rng.integers(0, len(ids), 8).tolist()})
        parts = [ids[a:b] for a, b in itertools.pairwise(cuts)]
        answer = AnswerText(tokenizer)
        sent = [answer.add(part, is_last=part is parts[-1]) for part in parts]
        assert "".join(sent) == answer_text(tokenizer.decode(ids)) == text.strip()
        assert not any("\ufffd" in piece for piece in sent)
        stopped = AnswerText(tokenizer, ["stars stop", "nothing"])
        sent = []
        for part in parts:
            sent.append(stopped.add(part, is_last=part is parts[-1]))
            if stopped.is_stopped:
                break
        assert "".join(sent) == text[: text.index("stars stop")].lstrip()


def test_state_memory_drops_least_recently_used() -> None:
    memory, dropped = StateMemory(100), list[str]()
    for name in "abc":
        memory.put((name, "video-1"), name, 30, lambda name=name: dropped.append(name))
    assert memory.get(("a", "video-1")) == "a"
    memory.put(("d", "video-2"), "d", 30)
    assert (dropped, memory.used_bytes, memory.evictions) == (["b"], 90, 1)
    memory.put(("e", "video-2"), "e", 500)
    assert list(memory.keys()) == [("e", "video-2")]
    memory.drop_video("video-2")
    assert (memory.used_bytes, list(memory.keys())) == (0, [])


def test_state_memory_known_state_changes_size_only() -> None:
    memory, caches = StateMemory(100), {"window": 1}
    memory.put(("windows", "video-1"), caches, 30, caches.clear)
    memory.put(("windows", "video-1"), caches, 40, caches.clear)
    assert (caches, memory.used_bytes) == ({"window": 1}, 40)
    memory.put(("windows", "video-1"), {"window": 1}, 40)  # Control: an equal, other state.
    assert (caches, memory.used_bytes) == ({}, 40)


def test_frame_request_merges_number_and_rate() -> None:
    assert (FrameRequest(num_frames=9).exact, FrameRequest(num_frames=9).most) == (9, None)
    both = FrameRequest(num_frames=9, fps=2.0, max_frames=20)
    assert (both.exact, both.most) == (None, 9)
    assert selection_of(SelectionConfig(), "all") is None
    assert selection_of(None, 8) == SelectionConfig(select=8, min_frames=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines; add --api-key-file"),
        (["--api-key-file", "{short}"], "a key has 5 characters; use at least 16"),
        (["--api-key-file", "{empty}"], "has no key"),
        (["--api-key-file", "{good}", "--insecure"], "--insecure has no effect"),
        (["--allow-folder", "{missing}"], "no such folder"),
        (["--checkpoint", "{missing}"], "no such folder"),
    ],
)
def test_unsafe_options_are_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "short").write_text("12345\n")
    (tmp_path / "empty").write_text("# none\n")
    (tmp_path / "good").write_text("k" * 32)
    names = {name: str(tmp_path / name) for name in ("short", "empty", "good", "missing")}
    arguments = ["serve", "--data", str(tmp_path / "data"), "--port", "0"]
    assert main(arguments + [option.format(**names) for option in options]) == 2
    assert message in capsys.readouterr().err
