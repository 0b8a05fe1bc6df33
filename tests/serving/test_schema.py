"""Sends generated requests to every operation of the API's description."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import schemathesis

from tests.serving.server import Server


def send(server: Server, examples: int) -> tuple[int, list[str]]:
    """Returns the number of requests and the operations that failed with 5xx."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    count, failed = 0, []
    for result in schema.get_all_operations():
        operation = result.ok()

        @hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def check(case: Any) -> None:
            nonlocal count
            count += 1
            response = case.call(base_url=server.url)
            if response.status_code >= 500:
                failed.append(f"{case.method} {case.path}: {response.status_code}")

        check()
    return count, failed


def test_generated_requests_give_no_server_error(server: Server, video_ids: list[str]) -> None:
    count, failed = send(server, examples=3)
    assert count > 40
    assert not failed, failed
    assert server.http.get("/healthz").status_code == 200


@pytest.mark.slow
def test_many_generated_requests_give_no_server_error(server: Server, video_ids: list[str]) -> None:
    count, failed = send(server, examples=100)
    assert count > 1000
    assert not failed, failed
    assert server.http.get("/healthz").status_code == 200
