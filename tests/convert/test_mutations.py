"""A checkpoint with any one mutation: the right values, or an error of one paragraph.

    python -m tests.convert.test_mutations [CASES] [SEED]

runs more cases than the seeded few of the test, and prints a table of their outcomes.
"""

from __future__ import annotations

import collections
import functools
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.convert import torch_model
from tests.convert.mutations import copy_mutated
from tests.tiny import TINY, tiny_params
from xcomp_jax.checkpoint import load_params, save_params
from xcomp_jax.convert.from_torch import convert_from_torch, load_torch_checkpoint
from xcomp_jax.convert.to_torch import convert_to_torch
from xcomp_jax.convert.verify import verify
from xcomp_jax.text.tokenizer import builtin_tokenizer, load_tokenizer

MAX_SECONDS = 20.0
MAX_LINES = 13
MAX_GROWTH_KB = 1 << 20

Values = dict[str, bytes]


def flat(params: object) -> Values:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


def load_ours(folder: Path) -> object:
    model, params = load_params(folder)
    load_tokenizer(str(folder))
    return model, flat(params)


def load_original(folder: Path) -> object:
    model, params = load_torch_checkpoint(folder)
    return model, flat(params)


def export(folder: Path) -> object:
    out = folder.with_name("exported")
    convert_to_torch(folder, out)
    return load_original(out)


def convert(folder: Path) -> object:
    out = folder.with_name("converted")
    convert_from_torch(str(folder), out)
    model, params = load_params(out)
    return model, flat(params)


def compare(folder: Path) -> object:
    return verify(folder, folder).equal


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "load_params": ("ours", load_ours),
    "to-torch": ("converted", export),
    "from_pretrained": ("original", load_original),
    "from-torch": ("shards", convert),
    "verify": ("converted", compare),
}


def make_originals(folder: Path) -> dict[str, Path]:
    tokenizer = builtin_tokenizer()
    save_params(folder / "ours", TINY, tiny_params(), tokenizer=tokenizer)
    torch_model.make(folder / "original")
    torch_model.make(folder / "shards", shards=2)
    convert_from_torch(str(folder / "original"), folder / "converted")
    return {name: folder / name for name in ("ours", "original", "shards", "converted")}


@functools.cache
def expected_value(reader: str, original: Path) -> object:
    """Reads the unchanged folder."""
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(original, Path(name) / "m")
        return READERS[reader][1](Path(name) / "m")


def outcome(reader: str, originals: dict[str, Path], work: Path, seed: int) -> str:
    """Reads one mutated copy: "same", "other values" or "refused"; anything else raises."""
    kind, read = READERS[reader]
    shutil.rmtree(work, ignore_errors=True)
    description = copy_mutated(originals[kind], work / "m", np.random.default_rng(seed))
    memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    try:
        value = read(work / "m")
    except (ValueError, OSError) as error:
        message = str(error)
        assert message.strip(), description
        assert len(message.splitlines()) <= MAX_LINES, (description, message)
        assert "source locations" not in message, (description, message)
        result = "refused"
    else:
        same = value == expected_value(reader, originals[kind])
        result = "same" if same else f"other values ({description})"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert time.monotonic() - start < MAX_SECONDS, description
    assert grown < MAX_GROWTH_KB, (description, grown)
    return result


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_originals(tmp_path_factory.mktemp("originals"))


@pytest.mark.parametrize("reader", READERS)
def test_mutated_checkpoint_is_read_or_refused(
    reader: str, originals: dict[str, Path], tmp_path: Path
) -> None:
    results = [outcome(reader, originals, tmp_path / "w", seed) for seed in range(12)]
    for result in results:
        # Neither the settings nor the weights of a PyTorch folder have checksums.
        assert result in ("same", "refused") or may_differ(reader, result), result


def may_differ(reader: str, result: str) -> bool:
    """Tells results that no checksum can find from those that one must."""
    if reader in ("from_pretrained", "from-torch"):
        return "config.json" in result or ".safetensors" in result
    return "./config.json" in result


def main(cases: int, seed: int) -> None:
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        originals = make_originals(Path(name))
        for number in range(seed, seed + cases):
            reader = sorted(READERS)[number % len(READERS)]
            try:
                result = outcome(reader, originals, Path(name) / "w", number)
            except Exception as error:
                result = f"FAILED {type(error).__name__}: {error}"
                print(f"seed {number} {reader}: {result[:600]}", flush=True)
                if "-v" in sys.argv:
                    traceback.print_exc()
            if result.startswith("other") and not may_differ(reader, result):
                print(f"seed {number} {reader}: {result}", flush=True)
                result = f"FAILED {result}"
            counts[reader, result.split(" (")[0].split(":")[0]] += 1
    for (reader, result), count in sorted(counts.items()):
        print(f"{reader:16} {result:40} {count}")


if __name__ == "__main__":
    main(int((*sys.argv, 2000)[1]), int((*sys.argv, 0, 0)[2]))
