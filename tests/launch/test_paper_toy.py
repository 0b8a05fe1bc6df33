"""Runs a table with tiny models from data to page, kills it and resumes it."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from xcomp_jax.cli.main import main
from xcomp_jax.launch.bench.paper import toy_tables
from xcomp_jax.launch.bench.paper.toy import ToySizes

SIZES = functools.partial(ToySizes, train=6, validation=2, test=2, long=1)


def table(out: Path, *names: str) -> int:
    steps = [f"stages.{number}.num_steps=2" for number in (0, 1)]
    overrides = [part for step in steps for part in ("--set", step)]
    options = ["--out", str(out), "--seeds", "1", "--quiet", "--cache-dir", str(out / "jit")]
    return main(["bench", "paper", "--table", *names, *options, *overrides])


@pytest.mark.slow
def test_paper_tables_of_tiny_models_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy_tables, "ToySizes", SIZES)
    calls: list[str] = []
    run_cell = toy_tables.run_cell

    def interrupted(folder: Path, *arguments: object, **options: object) -> object:
        calls.append(folder.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run_cell(folder, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(toy_tables, "run_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        table(tmp_path, "3", "4")
    assert calls == ["test-uniform-uniform-all", "test-progressive-progressive-all"]
    checkpoints = {
        path: (path / "config.json").stat().st_mtime_ns
        for path in tmp_path.glob("seed1/*/checkpoint")
    }
    assert {path.parent.name for path in checkpoints} == {"base", "uniform", "progressive"}
    assert table(tmp_path, "3", "4") == 0
    assert calls[2:] == [
        "test-progressive-progressive-all",
        *(f"long-progressive-progressive-{scope}" for scope in ("all", "global", "segments")),
    ], "the finished row is not run again"
    assert (
        checkpoints.items()
        <= {
            path: (path / "config.json").stat().st_mtime_ns
            for path in tmp_path.glob("seed1/*/checkpoint")
        }.items()
    )
    text = (tmp_path / "table-4.md").read_text()
    assert "| all frames | 44.3 | 65.2 | 58.8 |" in text
    assert "frame found" in text
    assert (tmp_path / "table-3.html").is_file()
    finished = len(calls)
    assert table(tmp_path, "3", "4") == 0
    assert len(calls) == finished
