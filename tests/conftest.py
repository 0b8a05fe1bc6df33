"""Options every run of the suite accepts, whichever folder it is pointed at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from tests.parity.cases import find_cases, listing
from tests.quick import compile_quickly
from tests.shape_checks import install_shape_checks

# Before any test module imports the package.
install_shape_checks()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--optimized",
        action="store_true",
        help="compile as users do; by default most optimisations are left out, which is quicker",
    )
    parser.addoption(
        "--goldens",
        action="append",
        default=[],
        metavar="DIR",
        help=(
            "folder whose sub-folders are recorded cases for tests/parity; may be given several "
            "times. Default: tests/goldens, and ../shared/goldens where that exists."
        ),
    )


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--optimized"):
        compile_quickly()
    jax.config.update("jax_numpy_rank_promotion", "raise")
    for text in config.getoption("--goldens"):
        folder = config.invocation_params.dir / text
        if not folder.is_dir():
            raise pytest.UsageError(f"--goldens {text}: no such directory ({folder})")
        if not find_cases(folder):
            raise pytest.UsageError(
                f"--goldens {text}: holds no case folders; name the folder whose sub-folders are "
                f"cases (it holds {listing(folder)[:10]})"
            )


LONGEST = ("training", "inference", "parity", "ops", "models", "cli")
"""Folders that take longest go first, so that both processes end at the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(here).parts[0]
        return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_programs() -> Iterator[None]:
    """Programs of one module are of no use to the next, and thousands of them fill the memory."""
    yield
    jax.clear_caches()
