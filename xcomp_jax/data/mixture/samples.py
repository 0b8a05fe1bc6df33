"""Loads the samples of a mixture in the order of the original.

Each set is shuffled and cut on its own (`strategy`), and reduced to samples of exactly one image or
one video; the sets then follow each other (original: LazySupervisedDataset of the training code;
docs/reference_behaviour.md#mixtures). The order within an epoch is set by `buckets`.

Two inputs are refused here that the original accepts or fails on later: unknown strategies (it uses
the whole set), and images in a set of videos, or the reverse, without `media_type: mix` (it fails
with a KeyError).
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xcomp_jax.config import MixtureConfig
from xcomp_jax.data.entry import (
    BadReason,
    EntryError,
    LeftOutError,
    LeftOutReason,
    MediumKind,
    entry_cut,
    entry_medium,
    entry_turns,
)
from xcomp_jax.data.messages import shown
from xcomp_jax.data.mixture.media import READERS, Media
from xcomp_jax.data.mixture.sets import MixtureError, MixtureSet, read_entries, read_sets
from xcomp_jax.data.mixture.strategy import select_entries


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One conversation about one image or video.

    set, entry: number of its set in the mixture, and of its entry in the set's file.
    """

    id: str
    set: int
    entry: int
    media: Media
    conversations: tuple[dict[str, str], ...] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BadSample:
    """A sample that cannot be used; `path` is empty if its entry has none."""

    id: str
    set: int
    entry: int
    path: str
    reason: BadReason
    message: str

    @classmethod
    def of(cls, sample: Sample, reason: BadReason, message: str) -> BadSample:
        """Returns the bad sample that a loaded sample turns out to be."""
        return cls(
            id=sample.id,
            set=sample.set,
            entry=sample.entry,
            path=sample.media.path,
            reason=reason,
            message=message,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
    """The sets of a mixture and their samples, in the order of the sets.

    bad: samples whose entries are invalid.
    left_out: number of entries that, as in the original, are no samples: (set, reason) -> count.
    """

    sets: tuple[MixtureSet, ...]
    samples: tuple[Sample, ...]
    bad: tuple[BadSample, ...] = ()
    left_out: Mapping[tuple[int, LeftOutReason], int] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        """Returns the number of samples, bad ones included."""
        return len(self.samples) + len(self.bad)

    @property
    def set_sizes(self) -> Counter[int]:
        """Number of samples of every set, bad ones included."""
        sizes = Counter(sample.set for sample in self.samples)
        sizes.update(sample.set for sample in self.bad)
        return sizes


def load_mixture(config: MixtureConfig) -> Mixture:
    """Reads the yaml file and the annotation files of its sets; opens no image or video.

    Raises:
        MixtureError: a file is missing or invalid, or there is no sample.
    """
    sets = read_sets(Path(config.path))
    samples: list[Sample] = []
    bad: list[BadSample] = []
    left_out: Counter[tuple[int, LeftOutReason]] = Counter()
    for number, mixture_set in enumerate(sets):
        for result in _set_samples(mixture_set, number, config, first_id=len(samples)):
            if isinstance(result, Sample):
                samples.append(result)
            elif isinstance(result, BadSample):
                bad.append(result)
            else:
                left_out[number, result] += 1
    mixture = Mixture(sets=sets, samples=tuple(samples), bad=tuple(bad), left_out=left_out)
    if not samples:
        raise MixtureError(
            f"{config.path}: its sets hold no usable sample between start={config.start:g} and "
            f"end={config.end:g}: {_why_empty(mixture)}"
        )
    return mixture


def _set_samples(
    mixture_set: MixtureSet, number: int, config: MixtureConfig, *, first_id: int
) -> Iterable[Sample | BadSample | LeftOutReason]:
    """Yields the samples of one set in training order, and what is none.

    Args:
        number: number of the set in the mixture.
        first_id: number of samples in earlier sets; a sample without `id` is named by its position.
    """
    where = os.path.join(config.root, mixture_set.json_path)
    entries = read_entries(Path(where))
    media_type = mixture_set.media_type or _media_type(entries)
    selected = select_entries(
        list(enumerate(entries)),
        mixture_set.sampling_strategy,
        start=config.start,
        end=config.end,
        seed=config.shuffle_seed,
        where=where,
    )
    position = first_id
    for row, entry in selected:
        path = ""
        try:
            kind, path = entry_medium(entry)
            media = _media(mixture_set, entry, kind, path, media_type)
            turns = entry_turns(entry, kind)
        except LeftOutError as error:
            yield error.reason
        except EntryError as error:
            yield BadSample(
                id=str(entry.get("id", row)),
                set=number,
                entry=row,
                path=path,
                reason=error.reason,
                message=str(error),
            )
        else:
            name = str(entry.get("id", position))
            yield Sample(id=name, set=number, entry=row, media=media, conversations=turns)
            position += 1


def _media_type(entries: Iterable[Mapping[str, Any]]) -> str:
    """Returns the media type of a set, that of its first entry with exactly one medium.

    The file's order counts, before shuffling. The original takes the first entry, even one without
    a medium, and then puts no `data_root` before the paths of the set.
    """
    for entry in entries:
        try:
            return entry_medium(entry)[0]
        except (LeftOutError, EntryError):
            continue
    return "text"


def _media(
    mixture_set: MixtureSet, entry: Mapping[str, Any], kind: MediumKind, path: str, media_type: str
) -> Media:
    """Returns the medium of an entry; raises EntryError if it is invalid."""
    reader = entry.get("video_read_type")
    if media_type in ("image", "video"):
        if kind != media_type:
            reason = "by its media_type" if mixture_set.media_type else "by its first entry"
            raise EntryError(
                "invalid entry",
                f"{kind} {shown(path)} in a set of {media_type}s ({reason}); give the set "
                "`media_type: mix` and its entries full paths",
            )
        path = os.path.join(mixture_set.data_root, path)
        reader = mixture_set.video_read_type or reader
    if kind == "image":
        return Media(path=path, kind="image")
    if reader is not None and (not isinstance(reader, str) or reader not in READERS):
        raise EntryError(
            "invalid entry", f"video_read_type={shown(reader)} must be one of {tuple(READERS)}"
        )
    start, end = entry_cut(entry)
    return Media(path=path, kind=READERS[reader or "decord"], start=start, end=end)


def _why_empty(mixture: Mixture) -> str:
    reasons = [
        f"entries with {reason} in {mixture.sets[number].json_path!r}: {count}"
        for (number, reason), count in mixture.left_out.items()
    ]
    if mixture.bad:
        first = mixture.bad[0]
        reasons.append(
            f"invalid entries: {len(mixture.bad)}, such as entry {first.entry} of "
            f"{mixture.sets[first.set].json_path!r}: {first.message}"
        )
    if not reasons:
        return (
            "no entry is selected; widen this share, or the sampling_strategy of the sets "
            "(first2:N is the second N of a shuffled set, so that first2:100% is empty)"
        )
    return "; ".join(reasons)
