"""Mutates valid annotation files and checks what their readers make of them.

    python -m tests.data.mutations 2500    # cases of every reader; prints one line for each reader

Every case changes one place of a valid file. The reader must give what an independent reading of
the changed file gives, or refuse it with an error of one paragraph that names the file.
"""

from __future__ import annotations

import functools
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from xcomp_jax.config import ConfigError, MixtureConfig, to_dict
from xcomp_jax.data.mixture.samples import Sample, load_mixture
from xcomp_jax.data.mixture.sets import MixtureError, read_sets
from xcomp_jax.data.prepared.manifest import ManifestError, load_manifest
from xcomp_jax.data.tokens import RowError, check_conversation
from xcomp_jax.experiment import load_experiment
from xcomp_jax.files import TextError

PLACE = re.compile(
    r"line \d+|entry \d+|set \d+|UTF-8|must hold|no usable sample|Exceeds the limit|recursion"
    r"|experiment\.py: [\w.\[\]]+[=:]|get_config|stage|experiment\.py: (no|an) |cannot be run"
)
"""Names of the place of a fault, or of what the whole file lacks."""

MAX_SECONDS = 10
"""Longest time of the processor for a file of a few kilobytes."""

TURNS = [{"from": "human", "value": "<image>\nWhat möves?"}, {"from": "gpt", "value": "A ball."}]
LONG = [*TURNS, {"from": "human", "value": "Where?"}, {"from": "gpt", "value": "Left."}]
MESSAGES = [
    {"role": "user", "content": "<video> Who?"},
    {"role": "assistant", "content": "She."},
]
ROWS: list[dict[str, Any]] = [
    {"id": "a", "video": "a.mp4", "conversations": TURNS},
    {"id": "b", "video": "b.mp4", "conversations": LONG, "start": 1.5, "end": "00:00:04"},
    {"id": 3, "videos": ["c.mp4"], "messages": MESSAGES},
    {"id": "t", "conversations": [{"from": "human", "value": "Hi?"}, TURNS[1]]},
    {"id": "i", "image": "ü.png", "conversations": TURNS},
]
MANIFEST = [{"id": str(i), "video": f"{i}.mp4", "conversations": TURNS} for i in range(3)]
SETS = """# the sets of a run
datasets:
  - json_path: set.jsonl
    data_root: "media/a"
    sampling_strategy: first:50%
    weight: 2.5
  - {json_path: other.json, video_read_type: img, media_type: video}
"""
EXPERIMENT = Path(__file__).parents[2] / "configs" / "smoke.py"
LITERALS = (
    b"null",
    b"NaN",
    b"1e999",
    b'""',
    b"[]",
    b"{}",
    b"-1",
    b"true",
    b"9" * 5000,
    b"[" * 5000,
)


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Changes one place of a file."""
    at, to = sorted((rng.randrange(len(content)), rng.randrange(len(content))))
    lines = content.splitlines(keepends=True)
    line = rng.randrange(len(lines))
    kind = rng.choice(
        ("flip", "flip", "delete", "insert", "cut", "erase", "line", "text", "literal")
    )
    match kind:
        case "flip":
            changed = bytes([content[at] ^ (1 << rng.randrange(8))])
            return content[:at] + changed + content[at + 1 :]
        case "delete":
            return content[:at] + content[at + 1 :]
        case "insert":
            piece = rng.choice((b"\0", b"\xff", b'"', b",", b"{", b"]", b"\\", b"\n", b"\t", b" "))
            return content[:at] + piece + content[at:]
        case "cut":
            return content[:at]
        case "erase":
            return content[:at] + content[min(to, at + 40) :]
        case "line":
            lines[line : line + 1] = rng.choice(
                ([], [lines[line]] * 2, [b"\xef\xbb\xbf", lines[line]])
            )
            return b"".join(lines)
        case "text":
            encoding = rng.choice(("utf-16", "utf-16-be", "latin-1", "utf-8-sig"))
            return content.decode().encode(encoding)
    start = content.rfind(b":", 0, at) + 1
    end = min((i for i in (content.find(c, start) for c in (b",", b"\n")) if i > 0), default=at)
    return content[:start] + b" " + rng.choice(LITERALS) + content[end:]


def check_entries(folder: Path, rng: random.Random, *, form: str) -> str:
    """Checks a mixture of one mutated set."""
    content = json.dumps(ROWS, ensure_ascii=False, indent=1).encode()
    if form == "jsonl":
        content = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
    path = folder / f"set.{form}"
    path.write_bytes(mutate(content, rng))
    (folder / "m.yaml").write_text(f"datasets: [{{json_path: set.{form}, media_type: mix}}]")
    config = MixtureConfig(path=str(folder / "m.yaml"), root=str(folder))
    outcome, mixture = refused_or_read(path, lambda: load_mixture(config))
    if mixture is None:
        return outcome
    rows = independent_rows(path.read_bytes())
    assert len(mixture) + sum(mixture.left_out.values()) == len(rows), "every row is counted"
    usable = [sample for sample in mixture.samples if is_conversation(sample)]
    for sample in usable:
        row = rows[sample.entry]
        assert sample.media.path in (row.get("video"), row.get("image"), *row.get("videos", ()))
        assert sample.id == str(row["id"]) if "id" in row else sample.id.isdecimal()
        expected = independent_turns(row)
        turns = [(turn["from"], turn["value"]) for turn in sample.conversations]
        assert turns == expected[len(expected) - len(turns) :], "complete and in order"
        if sample.media.start is not None:
            cut = (sample.media.start, sample.media.end)
            assert cut == (seconds(row["start"]), seconds(row["end"]))
    return "read" if len(usable) == len(mixture) else "bad rows"


def is_conversation(sample: Sample) -> bool:
    """Returns whether a run accepts the turns of a sample."""
    try:
        check_conversation(sample.id, sample.conversations)
    except RowError:
        return False
    return True


def independent_turns(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns (role, text) of every turn of a row."""
    roles = {"user": "human", "assistant": "gpt"}
    turns = row.get("conversations") or row["messages"]
    pairs = [(t.get("role", t.get("from")), t.get("content", t.get("value"))) for t in turns]
    return [(roles.get(role, role), text.replace("<video>", "<image>")) for role, text in pairs]


def check_manifest(folder: Path, rng: random.Random) -> str:
    """Checks a mutated manifest."""
    path = folder / "manifest.json"
    path.write_bytes(mutate(json.dumps(MANIFEST, ensure_ascii=False, indent=1).encode(), rng))
    outcome, rows = refused_or_read(path, lambda: load_manifest(path))
    if rows is None:
        return outcome
    entries = independent_rows(path.read_bytes())
    assert len(rows) == len(entries), "every row is read"
    for row, entry in zip(rows, entries, strict=True):
        assert row.video == entry["video"]
        assert [turn["value"] for turn in row.conversations] == [
            turn["value"] for turn in entry["conversations"]
        ][-len(row.conversations) :]
    return outcome


def check_sets(folder: Path, rng: random.Random) -> str:
    """Checks a mutated yaml file."""
    path = folder / "mixture.yaml"
    path.write_bytes(mutate(SETS.encode(), rng))
    outcome, sets = refused_or_read(path, lambda: read_sets(path))
    if sets is None:
        return outcome
    entries = yaml.safe_load(path.read_bytes().decode("utf-8-sig"))["datasets"]
    assert len(sets) == len(entries)
    for mixture_set, entry in zip(sets, entries, strict=True):
        for name, value in entry.items():
            assert value is None or getattr(mixture_set, name) == value, name
    return outcome


def check_experiment(folder: Path, rng: random.Random) -> str:
    """Checks a mutated configuration file."""
    path = folder / "experiment.py"
    path.write_bytes(mutate(EXPERIMENT.read_bytes(), rng))
    outcome, config = refused_or_read(path, lambda: load_experiment(path))
    if config is None:
        return outcome
    module: dict[str, Any] = {"__name__": "independent"}
    exec(compile(path.read_bytes(), path, "exec", dont_inherit=True), module)
    assert_contains(to_dict(config), module["get_config"]().to_dict())
    return outcome


def refused_or_read(path: Path, read: Callable[[], Any]) -> tuple[str, Any]:
    """Returns ("read", the result), or ("refused", None) after a check of the error."""
    start = time.process_time()
    try:
        outcome, result = "read", read()
    except (MixtureError, ManifestError, ConfigError, TextError) as error:
        outcome, result = str(error), None
    assert time.process_time() - start < MAX_SECONDS
    if result is not None:
        return outcome, result
    assert str(path.parent) in outcome, outcome
    assert PLACE.search(outcome), outcome
    assert "\n" not in outcome, outcome
    assert len(outcome) < 1500, outcome
    return "refused", None


def independent_rows(content: bytes) -> list[dict[str, Any]]:
    """Reads a JSON list or JSON lines by Python's json alone."""
    text = content.decode("utf-8-sig")
    if text.lstrip().startswith("["):
        return json.loads(text)
    lines = [line.strip().removeprefix("\ufeff") for line in text.split("\n")]
    return [json.loads(line) for line in lines if line]


def seconds(value: Any) -> float:
    """Reads seconds or hh:mm:ss."""
    parts = [float(part) for part in str(value).split(":")]
    return functools.reduce(lambda total, part: 60 * total + part, parts)


def assert_contains(values: Any, expected: Any) -> None:
    """Asserts that nested `values` hold everything in `expected`."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            assert_contains(values[name], value)
    elif isinstance(expected, list | tuple):
        assert len(values) == len(expected)
        for value, item in zip(values, expected, strict=True):
            assert_contains(value, item)
    else:
        assert values == expected


READERS: dict[str, Callable[[Path, random.Random], str]] = {
    "json": functools.partial(check_entries, form="json"),
    "jsonl": functools.partial(check_entries, form="jsonl"),
    "manifest": check_manifest,
    "yaml": check_sets,
    "experiment": check_experiment,
}


def main() -> int:
    """Runs the given number of cases of every reader; returns the number of faults."""
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        for reader, check in READERS.items():
            outcomes: Counter[str] = Counter()
            for seed in range(int(sys.argv[1])):
                try:
                    outcomes[check(Path(name), random.Random(seed))] += 1
                except Exception as error:  # Any error but those that `check` expects is a fault.
                    outcomes["FAULT"] += 1
                    print(f"{reader}, seed {seed}: {type(error).__name__}: {error!s:.500}")
            print(f"{reader}: {dict(outcomes)}", flush=True)
            faults += outcomes["FAULT"]
    return faults


if __name__ == "__main__":
    sys.exit(min(main(), 1))
