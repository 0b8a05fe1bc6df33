"""Many programs that run once or twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tiny import quick_compilation


@pytest.fixture(scope="module", autouse=True)
def compile_quickly() -> Iterator[None]:
    with quick_compilation():
        yield
