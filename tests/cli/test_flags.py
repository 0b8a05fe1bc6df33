"""Tests that every flag refuses nonsense with its name, the value and the values allowed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from xcomp_jax.cli.main import build_parser, main

NONSENSE = ("", "x", "nan", "-1", "1e999", "99999999999999999999", "1_0", "٣", "0x10", "--")
REQUIRED = {
    ("convert", "from-torch"): ["a", "b"],
    ("convert", "to-torch"): ["a", "b"],
    ("convert", "verify"): ["a", "b"],
    ("bench", "fit"): ["v5e"],
    ("bench", "paper"): ["--table", "2", "--out", "a"],
    ("bench", "convert-roundtrip"): ["--folder", "a"],
    ("ask",): ["a.mp4", "What?"],
    ("chat",): ["a.mp4"],
    ("encode",): ["a.mp4"],
    ("scan",): ["a.yaml"],
    ("tune",): ["--workdir", "a"],
}
UNBOUNDED = {
    *("--start", "--end", "--store-gib", "--minutes"),
    *("--atol", "--rtol", "--activations-tolerance", "--max-shard-size"),
}


def commands(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Yields every command that can be run, with its parser; skips aliases."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups or words == ("preflight",):
        yield words, parser
    for group in groups:
        for name, child in group.choices.items():
            if "_" not in name:
                yield from commands(child, (*words, name))


def numeric_flags() -> list[tuple[tuple[str, ...], str, int]]:
    return [
        (words, action.option_strings[0], action.nargs if isinstance(action.nargs, int) else 1)
        for words, parser in commands(build_parser())
        for action in parser._actions
        if action.option_strings and action.type not in (None, Path)
    ]


@pytest.mark.parametrize(("words", "flag", "count"), numeric_flags())
def test_flag_with_nonsense_is_refused_in_one_line(
    words: tuple[str, ...], flag: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    accepted = []
    for text in NONSENSE:
        try:
            build_parser().parse_args([*words, *REQUIRED.get(words, []), f"{flag}={text}"])
        except SystemExit:
            pass
        else:
            accepted.append(text)
        out, err = capsys.readouterr()
        assert out == ""
        if text not in accepted:
            assert err.startswith(f"xcomp {' '.join(words)}: {flag}"), err
            assert err.count("\n") == 1, err
            assert len(err) < 400, err
    # Only real numbers without an upper bound, such as --minutes, accept the large one.
    assert set(accepted) <= {"99999999999999999999"}
    assert not accepted or flag in UNBOUNDED


def test_flags_found_are_all_numeric_flags() -> None:
    names = {(words[0], flag) for words, flag, _ in numeric_flags()}
    for name in ("--frames", "--start", "--end", "--select", "--stride", "--store-gib", "--mesh"):
        assert ("ask", name) in names
    for pair in (
        *(("ask", "--seed"), ("ask", "--top-p"), ("chat", "--follow"), ("scan", "--max-bad")),
        *(("tune", "--process-id"), ("encode", "--workers"), ("convert", "--rtol")),
        *(("bench", "--minutes"), ("preflight", "--text")),
    ):
        assert pair in names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "99999999999999999999"], "--seed 99999999999999999999 is not a whole number"),
        (["--frames", "1000000"], "from 1 to 131,072"),
        (["--frames", "0"], "--frames 0 is not a whole number from 1 to 131,072"),
        (["--frames"], "--frames: expected one argument"),
        (["--frmaes", "8"], "--frmaes is unknown; did you mean --frames?"),
        (["--dtype", "int8"], "--dtype: invalid choice: 'int8' (choose from"),
        (["--layers", "24:6"], "'24:6' is not A:B"),
        (["--select", "some"], "whole number from 1 to 131,072, or all"),
        (["--end", "soon"], "soon is not a time; use seconds of at least 0 or [h:]mm:ss"),
    ],
)
def test_ask_bad_flag_names_flag_and_range(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["ask", "a.mp4", "What?", *arguments])
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("xcomp ask: ")
    assert err.endswith("; see `xcomp ask --help`\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--top-p 0.9", "--top-p has no effect without --temperature"),
        ("--temperature 0 --top-p 0.9", "--top-p has no effect without --temperature"),
        ("--seed 0", "--seed has no effect without --temperature"),
        ("--revision v1", "--revision has no effect without --checkpoint"),
        ("--store-gib 3", "--store-gib has no effect without --store"),
        ("--select all --repeats 2", "--repeats has no effect with --select all"),
        ("--segment 0 --stride 2", "--stride has no effect with --segment 0"),
        ("--stride 9", "--stride 9 is larger than --segment 8"),
        ("--segment 2 --stride 3", "--stride 3 is larger than --segment 2"),
        ("--end 0", "--end 0 must lie after --start 0"),
        ("--start 1:30 --end 80", "--end 80 must lie after --start 90"),
        ("--checkpoint .", "a.mp4: no such file or folder"),
        ("--checkpoint . --revision v1", "--revision v1 applies to a hub id"),
        ("--checkpoint setup.py", "--checkpoint setup.py is a file"),
        (
            "--checkpoint doc",
            "--checkpoint doc: no such folder, and not a hub id (OWNER/NAME); did you mean docs?",
        ),
        ("--checkpoint xcomp_jax/clii", "did you mean xcomp_jax/cli?"),
        ("--evidence page.pdf", "the suffix is .pdf"),
        ("--questions none.txt", "none.txt: No such file or directory; check the path"),
    ],
)
def test_ask_option_without_effect_or_file_is_refused(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", "a.mp4", "What?", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_ask_question_that_is_no_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "a.mp4", "caf\udce9?"]) == 2
    assert "bytes that are not UTF-8, after 'caf'" in capsys.readouterr().err
    assert main(["ask", "a.mp4", "a?", " "]) == 2
    assert "the question is empty" in capsys.readouterr().err
