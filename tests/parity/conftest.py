"""Runs every recorded case against the test module of its kind.

    pytest tests/parity                      # tests/goldens, and ../shared/goldens if it is there
    pytest tests/parity --goldens DIR        # any folder of the same form; may be repeated

A test names its kind and takes the case:

    @pytest.mark.golden("schedule")
    def test_keep_counts(case): ...

A case of a kind with tests is never skipped. The summary names every case that did not run: unknown
kinds, and kinds without a test. A case that is byte for byte the same in both default folders runs
once.
"""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.parity import cases as goldens
from tests.parity.cases import Case
from tests.quick import compiled_for_computing
from xcomp_jax.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HERE = Path(__file__).parent
REPO = HERE.parent.parent
SHARED_TOKENIZER = REPO.parent / "shared" / "tokenizer"
OWN, SHARED = REPO / "tests" / "goldens", REPO.parent / "shared" / "goldens"


def golden_roots(config: pytest.Config) -> list[Path]:
    """Returns the folders passed as --goldens, or the default ones."""
    folders = config.getoption("--goldens")
    if not folders:
        return [root for root in (OWN, SHARED) if root.is_dir()]
    return [(config.invocation_params.dir / text).resolve() for text in folders]


@functools.cache
def _all_cases(roots: tuple[Path, ...], drop_copies: bool) -> tuple[Case, ...]:
    found = [case for root in roots for case in goldens.find_cases(root)]
    return tuple(goldens.without_copies(found) if drop_copies else found)


def all_cases(config: pytest.Config) -> tuple[Case, ...]:
    # Only the two default folders overlap intentionally; folders passed by name run unchanged.
    return _all_cases(tuple(golden_roots(config)), not config.getoption("--goldens"))


@functools.cache
def tested_kinds() -> frozenset[str]:
    """Kinds named by a golden marker in this folder's test modules, whichever were selected."""
    kinds: set[str] = set()
    for file in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "golden":
                kinds.update(str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))
    return frozenset(kinds)


def case_ids(cases: Iterable[Case]) -> list[str]:
    """Folder names; the folder they come from is put before them where two share a name."""
    cases = list(cases)
    names = [case.name for case in cases]
    labels = [f"{case.root.parent.name}-{case.root.name}" for case in cases]
    return [
        name if names.count(name) == 1 else f"{label}-{name}"
        for name, label in zip(names, labels, strict=True)
    ]


@pytest.fixture
def tokenizer(case: Case) -> PreTrainedTokenizerBase:
    """The tokenizer the case was recorded with; it is not part of this repository."""
    folder = case.tokenizer_dir(SHARED_TOKENIZER)
    if folder is None:
        pytest.skip(
            f"no tokenizer data at {case.root.parent / 'tokenizer'} or {SHARED_TOKENIZER}: the "
            "recorded token ids are not compared; texts and label masks are, by the other tests"
        )
    return _load_tokenizer(folder)


@pytest.fixture(scope="module")
def optimized_with_goldens(request: pytest.FixtureRequest) -> Iterator[None]:
    """Optimizes programs if all recorded chats run: long ones compute more than they compile."""
    if not request.config.getoption("--goldens"):
        yield
        return
    with compiled_for_computing():
        yield


@functools.cache
def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(folder))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("golden")
    if marker is None or not marker.args:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid} has the argument case: mark it golden(kind)"
        )
    unknown = set(marker.args) - set(goldens.KINDS)
    if unknown:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: kinds {sorted(unknown)} not known; "
            f"known: {sorted(goldens.KINDS)}"
        )
    cases = [case for case in all_cases(metafunc.config) if case.kind in marker.args]
    metafunc.parametrize("case", cases, ids=case_ids(cases))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Removes the placeholders of tests without cases."""
    items[:] = [item for item in items if not _is_placeholder(item)]


def _is_placeholder(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return (
        callspec is not None
        and "case" in callspec.params
        and not isinstance(callspec.params["case"], Case)
    )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    by_kind: dict[str, list[str]] = defaultdict(list)
    roots = golden_roots(config)
    cases = all_cases(config)
    for case, case_id in zip(cases, case_ids(cases), strict=True):
        by_kind[case.kind].append(case_id)
    unknown = by_kind.pop(goldens.UNKNOWN, [])
    run = {kind: names for kind, names in by_kind.items() if kind in tested_kinds()}
    untested = [name for kind, names in by_kind.items() if kind not in run for name in names]
    blind = [
        case_id
        for case, case_id in zip(cases, case_ids(cases), strict=True)
        if case.kind == "prompts" and case.tokenizer_dir(SHARED_TOKENIZER) is None
    ]
    write = terminalreporter.write_line
    terminalreporter.section("recorded cases")
    write(f"folders: {', '.join(map(str, roots)) or 'none'}")
    write(f"kinds with tests and cases: {', '.join(sorted(run)) or 'none'}")
    write(f"kinds with tests but no case: {', '.join(sorted(tested_kinds() - set(run))) or 'none'}")
    write(f"NOT RUN, kind known but no test yet: {', '.join(untested) or 'none'}")
    write(f"NOT RUN, kind unknown: {', '.join(unknown) or 'none'}")
    if blind:
        write(f"token ids NOT COMPARED, no tokenizer data: {', '.join(blind)}")
