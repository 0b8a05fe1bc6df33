"""The samples of a mixture: a yaml list of LLaVA-style sets, read as the original reads it.

    datasets:
      - json_path: annotations/captions.jsonl    # a JSON list, or one object a line
        data_root: videos/captions               # in front of every path of the set
        sampling_strategy: first2:10%            # default: all
        video_read_type: img                     # default: video files
        weight: 2                                # ours: passes over the set in one epoch

Every set goes through the same steps, alone (original: LazySupervisedDataset of the training code;
facts: training data and loss): shuffled with seed 12345; cut by its strategy; shuffled again with a
seed of the run and cut to a part [start, end); left with the samples of exactly one image or one
video. The sets then follow each other. The order within an epoch is the business of `buckets`.

Refused here, where the original goes on with something else than was asked for: strategies it does
not know (it takes the whole set) and images in a set whose first entry is a video, or the reverse,
without `media_type: mix` (it fails with a KeyError).
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from xcomp_jax.config import MixtureConfig
from xcomp_jax.data.mixture.media import READERS, Media

SET_SEED = 12345
"""Of the first shuffle; every set begins from it anew."""

KNOWN = "all, first:N, first2:N ... first9:N and end:N, where N is a number of samples or a share"

Entry = TypeVar("Entry")


class MixtureError(ValueError):
    """A mixture that cannot be read: names the file, the set and what is wrong with it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One conversation about one image or video; `set` is the place of its set in the mixture."""

    id: str
    set: int
    media: Media
    conversations: tuple[dict[str, str], ...] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureSet:
    """One entry of the yaml file, as written."""

    json_path: str
    data_root: str = ""
    sampling_strategy: str = "all"
    video_read_type: str | None = None
    media_type: str | None = None
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
    """The sets of a mixture and their samples, in the order of the sets."""

    sets: tuple[MixtureSet, ...]
    samples: tuple[Sample, ...]


def load_mixture(config: MixtureConfig) -> Mixture:
    """Reads the yaml file and all of its sets; looks at no image or video.

    Raises:
        MixtureError: a file is missing or not what it should be.
    """
    sets = read_sets(Path(config.path))
    samples: list[Sample] = []
    for number, one in enumerate(sets):
        samples += set_samples(one, number, config, first_id=len(samples))
    if not samples:
        raise MixtureError(
            f"{config.path}: no samples are left of {len(sets)} sets between start={config.start} "
            f"and end={config.end}; widen the part, or the sampling_strategy of the sets"
        )
    return Mixture(sets=sets, samples=tuple(samples))


def read_sets(path: Path) -> tuple[MixtureSet, ...]:
    """The entries of the yaml file; fields other than those of `MixtureSet` mean nothing."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MixtureError(f"{path} cannot be read ({error.strerror}); give a yaml file") from error
    # ValueError: no UTF-8, no such date, too many digits. RecursionError: too deep.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MixtureError(f"{path} is not yaml: {error}") from error
    entries = content.get("datasets") if isinstance(content, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise MixtureError(
            f"{path} must hold a list `datasets` of entries with a json_path, got {content!r:.200}"
        )
    return tuple(_set(entry, f"{path}, set {i}") for i, entry in enumerate(entries))


def set_samples(
    one: MixtureSet, number: int, config: MixtureConfig, *, first_id: int = 0
) -> list[Sample]:
    """The samples of one set in training order.

    Args:
        number: place of the set in the mixture.
        first_id: samples before it; one without an `id` is called by its place among all.
    """
    where = os.path.join(config.root, one.json_path)
    entries = _read_entries(Path(where))
    media_type = one.media_type or _media_type(entries[0])
    chosen = choose(
        entries, one.sampling_strategy, config.start, config.end, config.shuffle_seed, where
    )
    samples: list[Sample] = []
    for entry in chosen:
        kinds = [kind for kind in ("image", "video") if entry.get(kind) is not None]
        # One picture in a list counts as several, as in the original.
        if len(kinds) != 1 or isinstance(entry[kinds[0]], list):
            continue
        samples.append(
            Sample(
                id=str(entry.get("id", first_id + len(samples))),
                set=number,
                media=_media(one, entry, kinds[0], media_type, where),
                conversations=_turns(entry.get("conversations")),
            )
        )
    return samples


def choose(
    entries: list[Entry],
    strategy: str,
    start: float,
    end: float,
    seed: int | None,
    where: str = "sampling_strategy",
) -> list[Entry]:
    """Which entries of a set are used, and in which order. Python's `random`, as the original."""
    chosen = list(entries)
    random.Random(SET_SEED).shuffle(chosen)
    chosen = chosen[strategy_slice(strategy, len(entries), where)]
    if seed is not None:
        random.Random(seed).shuffle(chosen)
    if start > 0 or end < 1:
        chosen = chosen[int(len(chosen) * start) : int(len(chosen) * end)]
    return chosen


def strategy_slice(strategy: str, total: int, where: str = "sampling_strategy") -> slice:
    """The part of a shuffled set of `total` entries that a strategy takes.

    `first3:100` is the third hundred, `end:2.5%` the last fortieth; shares are rounded up.
    """
    if strategy == "all":
        return slice(None)
    name, _, number = strategy.partition(":")
    place = re.fullmatch(r"first([1-9]?)", name)
    try:
        share = number.endswith("%")
        count = math.ceil(float(number[:-1]) * total / 100) if share else int(number)
    except (ValueError, OverflowError):
        count = 0
    if count < 1 or not (place or name == "end"):
        advice = (
            "; every set is shuffled, so first:N is a random choice" if name == "random" else ""
        )
        raise MixtureError(
            f"{where}: sampling_strategy {strategy!r} is not known; known are {KNOWN}{advice}"
        )
    if not place:
        return slice(-count, None)
    which = int(place[1] or 1)
    return slice(count * (which - 1), count * which)


def _set(entry: Any, where: str) -> MixtureSet:
    known = {field.name for field in dataclasses.fields(MixtureSet)}
    values = entry if isinstance(entry, Mapping) else {}
    one = {name: value for name, value in values.items() if name in known and value is not None}
    weight = one.get("weight", 1.0)
    texts = [value for name, value in one.items() if name != "weight"]
    if "json_path" not in one or not all(isinstance(text, str) for text in texts):
        raise MixtureError(f"{where}: needs texts and a json_path, got {entry!r:.200}")
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not 0 < weight <= sys.float_info.max:
        raise MixtureError(f"{where}: weight={weight!r:.200} must be a finite number above 0")
    for field, allowed in (
        ("video_read_type", tuple(READERS)),
        ("media_type", ("image", "video", "text", "mix")),
    ):
        if field in one and one[field] not in allowed:
            raise MixtureError(f"{where}: {field}={one[field]!r} is not known; known: {allowed}")
    return MixtureSet(**{**one, "weight": float(weight)})


def _read_entries(path: Path) -> list[dict[str, Any]]:
    if path.suffix not in (".json", ".jsonl"):
        raise MixtureError(f"{path}: a set is a .json or a .jsonl file")
    try:
        with path.open(encoding="utf-8") as file:
            if path.suffix == ".jsonl":
                entries = [
                    _parsed(line.strip(), f"{path}, line {number}")
                    for number, line in enumerate(file, 1)
                    if line.strip()
                ]
            else:
                entries = _parsed(file.read(), str(path))
    except OSError as error:
        raise MixtureError(
            f"{path} cannot be read ({error.strerror}); json_path begins at the folder that "
            "data.mixture.root (--root) names, or else where the command runs"
        ) from error
    except UnicodeDecodeError as error:
        raise MixtureError(f"{path} is not {path.suffix[1:]}: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise MixtureError(f"{path} must hold a list of at least one entry")
    bad = next((i for i, entry in enumerate(entries) if not isinstance(entry, dict)), None)
    if bad is not None:
        raise MixtureError(f"{path}, entry {bad}: must be an object, got {entries[bad]!r:.200}")
    return entries


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MixtureError(f"{where}: not JSON in itself: {error}") from error


def _media_type(first: Mapping[str, Any]) -> str:
    """What a set holds, by the first entry of its file (not of the shuffled set).

    A set that begins with neither keeps its paths as they are, without data_root (original).
    """
    return next((kind for kind in ("image", "video") if kind in first), "text")


def _media(
    one: MixtureSet, entry: Mapping[str, Any], kind: str, media_type: str, where: str
) -> Media:
    path, reader = entry[kind], entry.get("video_read_type")
    if not isinstance(path, str):
        raise MixtureError(f"{where}: {kind}={path!r:.200} must be a path")
    if media_type in ("image", "video"):
        if kind != media_type:
            why = "by its media_type" if one.media_type else "as its first entry is one"
            raise MixtureError(
                f"{where}: an entry with {kind} {path!r} in a set of {media_type}s, {why}; give "
                "the set `media_type: mix` and its entries whole paths"
            )
        path = os.path.join(one.data_root, path)
        reader = one.video_read_type or reader
    if kind == "image":
        return Media(path=path, kind="image")
    if reader is not None and reader not in READERS:
        raise MixtureError(
            f"{where}: video_read_type={reader!r} is not known; known: {tuple(READERS)}"
        )
    start = end = None
    if "start" in entry and "end" in entry:
        try:
            start, end = float(entry["start"]), float(entry["end"])
        except (TypeError, ValueError, OverflowError) as error:
            raise MixtureError(
                f"{where}: {path}: start={entry['start']!r}, end={entry['end']!r} must be seconds"
            ) from error
    return Media(path=path, kind=READERS[reader or "decord"], start=start, end=end)


def _turns(turns: Any) -> tuple[dict[str, str], ...]:
    """What is no list of turns becomes none at all, which tokenising reports as a bad sample."""
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return ()
    # The original drops a reply that comes before any question.
    return tuple(turns[1:] if turns and turns[0].get("from") == "gpt" else turns)
