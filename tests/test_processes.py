"""Tests that several processes compare what they start with and report differences on all."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import Any

import pytest

from tests.quick import REPO

SECONDS = 200


@pytest.fixture(scope="module", name="results")
def results_fixture() -> list[dict[str, Any]]:
    """Returns what each of two processes reports."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.process_checks", address, str(number)],
            cwd=REPO,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=SECONDS) for process in running]
    for process, (_, errors) in zip(running, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("equal", ""),
        (
            "different",
            "process 0 and process 1 of this run differ in sources: older and new. Start all of "
            "them with the same code, files and options",
        ),
        (
            "absent",
            "process 0 and process 1 of this run differ in table: absent and x. Start all of them "
            "with the same code, files and options",
        ),
        ("failed", "process 1: no such table"),
        (
            "other revision",
            "process 0 and process 1 of this run differ in checkpoint: owner/name@main and "
            "owner/name@v2. Start all of them with the same code, files and options",
        ),
    ],
)
def test_processes_report_differences_on_both(
    results: list[dict[str, Any]], check: str, message: str
) -> None:
    assert [result[check] for result in results] == [message] * 2


def test_on_every_success_returns_own_result(results: list[dict[str, Any]]) -> None:
    assert [result["succeeded"] for result in results] == [7, 7]


def test_hub_commit_is_that_of_first_process(results: list[dict[str, Any]]) -> None:
    assert [result["commit"] for result in results] == ["a" * 40] * 2
