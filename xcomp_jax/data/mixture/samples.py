"""Loads the samples of a mixture in the order of the original.

Each set is shuffled and cut on its own (`strategy`), and reduced to samples of exactly one image or
one video; the sets then follow each other (original: LazySupervisedDataset of the training code;
docs/reference_behaviour.md#mixtures). The order within an epoch is set by `buckets`.

Two inputs are refused here that the original accepts or fails on later: unknown strategies (it uses
the whole set), and images in a set whose first entry is a video, or the reverse, without
`media_type: mix` (it fails with a KeyError).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xcomp_jax.config import MixtureConfig
from xcomp_jax.data.mixture.media import READERS, Media
from xcomp_jax.data.mixture.sets import MixtureError, MixtureSet, read_entries, read_sets
from xcomp_jax.data.mixture.strategy import select_entries


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One conversation about one image or video; `set` is the number of its set in the mixture."""

    id: str
    set: int
    media: Media
    conversations: tuple[dict[str, str], ...] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
    """The sets of a mixture and their samples, in the order of the sets."""

    sets: tuple[MixtureSet, ...]
    samples: tuple[Sample, ...]


def load_mixture(config: MixtureConfig) -> Mixture:
    """Reads the yaml file and the annotation files of its sets; opens no image or video.

    Raises:
        MixtureError: a file is missing or invalid.
    """
    sets = read_sets(Path(config.path))
    samples: list[Sample] = []
    for number, mixture_set in enumerate(sets):
        samples += _set_samples(mixture_set, number, config, first_id=len(samples))
    if not samples:
        raise MixtureError(
            f"{config.path}: its {len(sets)} sets hold no usable samples between "
            f"start={config.start} and end={config.end}; widen this share, or the "
            "sampling_strategy of the sets"
        )
    return Mixture(sets=sets, samples=tuple(samples))


def _set_samples(
    mixture_set: MixtureSet, number: int, config: MixtureConfig, *, first_id: int
) -> list[Sample]:
    """Returns the samples of one set in training order.

    Args:
        number: number of the set in the mixture.
        first_id: number of samples in earlier sets; a sample without `id` is named by its position.
    """
    where = os.path.join(config.root, mixture_set.json_path)
    entries = read_entries(Path(where))
    media_type = mixture_set.media_type or _media_type(entries[0])
    selected = select_entries(
        entries,
        mixture_set.sampling_strategy,
        start=config.start,
        end=config.end,
        seed=config.shuffle_seed,
        where=where,
    )
    samples: list[Sample] = []
    for entry in selected:
        kinds = [kind for kind in ("image", "video") if entry.get(kind) is not None]
        # As in the original, a list counts as several images even if it holds one.
        if len(kinds) != 1 or isinstance(entry[kinds[0]], list):
            continue
        samples.append(
            Sample(
                id=str(entry.get("id", first_id + len(samples))),
                set=number,
                media=_media(mixture_set, entry, kinds[0], media_type, where),
                conversations=_turns(entry.get("conversations")),
            )
        )
    return samples


def _media_type(first: Mapping[str, Any]) -> str:
    """Returns the media type of a set, from the first entry of its file before shuffling.

    As in the original, media paths of a set of type "text" get no `data_root`.
    """
    return next((kind for kind in ("image", "video") if kind in first), "text")


def _media(
    mixture_set: MixtureSet, entry: Mapping[str, Any], kind: str, media_type: str, where: str
) -> Media:
    path, reader = entry[kind], entry.get("video_read_type")
    if not isinstance(path, str):
        raise MixtureError(f"{where}: {kind}={path!r:.200} must be a path")
    if media_type in ("image", "video"):
        if kind != media_type:
            reason = "by its media_type" if mixture_set.media_type else "by its first entry"
            raise MixtureError(
                f"{where}: {kind} {path!r} in a set of {media_type}s ({reason}); give the set "
                "`media_type: mix` and its entries full paths"
            )
        path = os.path.join(mixture_set.data_root, path)
        reader = mixture_set.video_read_type or reader
    if kind == "image":
        return Media(path=path, kind="image")
    if reader is not None and reader not in READERS:
        raise MixtureError(f"{where}: video_read_type={reader!r} must be one of {tuple(READERS)}")
    start, end = _cut(entry, f"{where}: {path}")
    return Media(path=path, kind=READERS[reader or "decord"], start=start, end=end)


def _cut(entry: Mapping[str, Any], where: str) -> tuple[float, float] | tuple[None, None]:
    """Returns start and end of the cut in seconds, or None for a whole video."""
    if "start" not in entry or "end" not in entry:
        return None, None
    try:
        return float(entry["start"]), float(entry["end"])
    except (TypeError, ValueError, OverflowError) as error:
        raise MixtureError(
            f"{where}: start={entry['start']!r} and end={entry['end']!r} must be seconds"
        ) from error


def _turns(turns: Any) -> tuple[dict[str, str], ...]:
    """Returns the turns, or () for anything but a list of objects, which tokenizing refuses."""
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return ()
    # As in the original, a reply before the first question is dropped.
    return tuple(turns[1:] if turns and turns[0].get("from") == "gpt" else turns)
