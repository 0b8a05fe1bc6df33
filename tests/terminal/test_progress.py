"""Tests progress on a terminal and in a log file."""

from __future__ import annotations

import io

import pytest

from xcomp_jax.terminal import progress
from xcomp_jax.terminal.output import close_bars
from xcomp_jax.terminal.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_bar_without_terminal_prints_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100_000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock) / 10)
    log = io.StringIO()
    with ProgressBar(total=1000, desc="frames", file=log, mininterval=0, miniters=1) as bar:
        for number in range(1000):
            bar.update()
            bar.set_postfix(loss=number)
    lines = log.getvalue().splitlines()
    # 2,000 states are offered in about 200 seconds, of which every thirtieth second is printed.
    assert 4 <= len(lines) <= 8
    assert all("frames" in line and len(line) <= 80 for line in lines)
    assert "\r" not in log.getvalue()


def test_progress_bar_of_short_work_prints_no_line() -> None:
    log = io.StringIO()
    assert list(ProgressBar(range(50), file=log, mininterval=0)) == list(range(50))
    assert log.getvalue() == ""


def test_close_bars_ends_line_of_open_bar() -> None:
    terminal = Terminal()
    bar = ProgressBar(total=10, file=terminal, mininterval=0)
    bar.update(3)
    close_bars()
    assert bar.disable
    terminal.write("error")
    assert terminal.getvalue().rpartition("\n")[2] == "error"
