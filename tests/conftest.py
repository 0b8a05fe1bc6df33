"""Options and settings of every run of the suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests.parity.cases import find_cases, listing
from tests.quick import compile_quickly
from tests.shape_checks import install_shape_checks

# Before any test module imports the package.
install_shape_checks()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--optimized",
        action="store_true",
        help="compile with all optimizations (default: without most of them, which is quicker)",
    )
    parser.addoption(
        "--goldens",
        action="append",
        default=[],
        metavar="DIR",
        help=(
            "folder whose sub-folders are recorded cases for tests/parity; may be repeated "
            "(default: tests/goldens, and ../shared/goldens if it exists)"
        ),
    )


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--optimized"):
        compile_quickly()
    jax.config.update("jax_numpy_rank_promotion", "raise")
    # A run depends on the code alone: no limit of time, and the same examples every time.
    hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
    hypothesis.settings.load_profile("suite")
    for text in config.getoption("--goldens"):
        folder = config.invocation_params.dir / text
        if not folder.is_dir():
            raise pytest.UsageError(f"--goldens {text}: no such directory ({folder})")
        if not find_cases(folder):
            raise pytest.UsageError(
                f"--goldens {text}: holds no case folders; pass the folder whose sub-folders are "
                f"cases (it holds {listing(folder)[:10]})"
            )


LONGEST = ("training", "inference", "parity", "ops", "models", "cli")
"""Slowest folders, which run first so that both processes finish at the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(here).parts[0]
        return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)

    items.sort(key=place)


_folders: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_programs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Frees the programs of a folder, which no other folder uses, and leaves caches on disk."""
    if _folders[-1:] != [request.path.parent]:
        jax.clear_caches()
        _folders.append(request.path.parent)
    yield
    if jax.config.jax_compilation_cache_dir is not None:  # A command ran in this process.
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()
