"""Opens a data mixture as a `TrainingSet`: usable samples, their lengths and their examples.

No media file is opened to find lengths: frame counts follow from the scan, and texts are tokenized
once, when the mixture is opened. Samples whose text or length is unusable are excluded before the
first step. A file that only fails when it is read keeps its row, with zeros for pixels, no labels
and weight 0, so that the other rows and the shapes on other processes do not change.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import grain
import numpy as np

from xcomp_jax.data.mixture.buckets import Bucket, EpochPlanner, halvings
from xcomp_jax.data.mixture.judge import bad_set, judge_samples
from xcomp_jax.data.mixture.reader import MixtureReader
from xcomp_jax.data.mixture.samples import BadSample, Mixture, Sample
from xcomp_jax.data.mixture.skipped import BadSamplesError, SkippedLog
from xcomp_jax.data.padding import (
    PREFIX_MULTIPLE,
    SUFFIX_MULTIPLE,
    Example,
    padded,
    round_up,
    text_fields,
    video_position,
)
from xcomp_jax.terminal.progress import ProgressBar
from xcomp_jax.text.prompts import IGNORE
from xcomp_jax.token_store import TokenStoreError
from xcomp_jax.video.errors import VideoError

FRAME_BUCKETS = 4
"""Number of frame buckets unless `MixtureConfig.frame_buckets` lists them."""

MAX_READ_AHEAD = 128
"""Largest number of examples in the read-ahead buffer, however small they are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureDataset:
    """The usable samples of a mixture, in its order; open one with `open_mixture`.

    frames, prefix, suffix: int32 [N], number of frames, and of tokens before and after the video.
    weights: passes over each set per epoch.
    texts_digest: hash of all tokens and labels.
    """

    samples: tuple[Sample, ...]
    frames: np.ndarray
    prefix: np.ndarray
    suffix: np.ndarray
    weights: tuple[float, ...]
    texts_digest: str
    reader: MixtureReader = dataclasses.field(repr=False)
    skipped: SkippedLog = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    def row_id(self, row: int) -> str:
        """Returns id and path of a row, because ids may repeat across sets."""
        sample = self.samples[row]
        return f"{sample.id} of {sample.media.path}"

    @property
    def fingerprint(self) -> str:
        """Hash of everything that determines the batches; equal on all processes of a run."""
        inputs = [
            [[sample.id, sample.set, dataclasses.astuple(sample.media)] for sample in self.samples],
            [array.tolist() for array in (self.frames, self.prefix, self.suffix)],
            [self.weights, self.frame_limits, self.suffix_limits],
            self.texts_digest,
        ]
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]

    @property
    def frame_limits(self) -> tuple[int, ...]:
        """Frame counts that batches of videos are padded to, ascending."""
        clip = self.reader.clip_frames
        limits = self.reader.config.frame_buckets or halvings(
            self.reader.sampling.max_frames, FRAME_BUCKETS, multiple=clip
        )
        return tuple(round_up(limit, clip) for limit in limits)

    @property
    def suffix_limits(self) -> tuple[int, ...]:
        """Token counts after the video that batches are padded to, ascending."""
        longest = self.reader.max_text_tokens
        limits = self.reader.config.text_buckets or halvings(longest, 3, multiple=1)[::2]
        return tuple(round_up(limit, SUFFIX_MULTIPLE) for limit in limits)

    @property
    def read_options(self) -> grain.ReadOptions:
        """Reader threads and read-ahead buffer, within the configured threads and memory."""
        config = self.reader.config
        bytes_per_example = max(self.frame_limits) * self.reader.bytes_per_frame
        ahead = max(1, int(config.read_ahead_gib * 2**30) // bytes_per_example)
        return grain.ReadOptions(
            num_threads=min(config.threads, ahead),
            prefetch_buffer_size=min(ahead, MAX_READ_AHEAD),
        )

    def planner(self, batch_size: int, seed: int) -> EpochPlanner:
        """Returns the planner of batches; errors as `EpochPlanner`."""
        return EpochPlanner(
            frames=self.frames,
            suffix=self.suffix,
            sets=np.array([sample.set for sample in self.samples]),
            weights=self.weights,
            frame_limits=self.frame_limits,
            suffix_limits=self.suffix_limits,
            batch_size=batch_size,
            seed=seed,
        )

    def examples(self, *, batch_size: int, seed: int) -> Callable[[int], Example]:
        """Returns the example stream of `TrainingSet`; the examples of a batch share a bucket."""
        planner = self.planner(batch_size, seed)
        # Two plans, because read-ahead crosses into the next epoch.
        epoch_plan = functools.lru_cache(maxsize=2)(planner.plan)

        def example(position: int) -> Example:
            batch, slot = divmod(position, batch_size)
            epoch, number = divmod(batch, planner.batches_per_epoch)
            plan = epoch_plan(epoch)
            return self.example(int(plan.rows[number, slot]), plan.buckets[number])

        return example

    def example(self, row: int, bucket: Bucket) -> Example:
        """Reads one example and pads it to `bucket`; fields as in `data.pipeline`.

        Raises:
            BadSamplesError: too many samples could not be read.
        """
        sample, reader = self.samples[row], self.reader
        plan = reader.plan(sample)
        ids, labels = reader.tokens(sample, plan)
        weight = 1
        try:
            visual = reader.visual(sample, plan)
            self.skipped.count_good()
        except (VideoError, TokenStoreError) as error:
            self.skipped.add_bad(sample, str(error))
            visual, weight = reader.visual_zeros(plan), 0
            labels = np.full_like(labels, IGNORE)
        prefix = round_up(int(self.prefix.max()), PREFIX_MULTIPLE)
        return {
            reader.visual_field: padded(visual, bucket.frames * reader.rows_per_frame, 0),
            "num_frames": np.int32(plan.num_frames),
            **text_fields(ids, labels, prefix, bucket.suffix),
            "example_weight": np.float32(weight),
            "index": np.int64(row),
        }


def open_mixture(
    mixture: Mixture,
    reader: MixtureReader,
    *,
    skipped_file: Path | None = None,
    progress: bool = True,
) -> MixtureDataset:
    """Opens a scanned mixture for training: tokenizes its texts, opens no image or video.

    Args:
        skipped_file: log of bad samples; one file per process.

    Raises:
        BadSamplesError: more samples are unusable than `reader.config.max_bad` allows, or most of
            one set.
    """
    max_bad = reader.config.max_bad
    usable: list[Sample] = []
    bad = list(mixture.bad)
    lengths: list[tuple[int, int, int]] = []
    texts = hashlib.sha256()
    samples = ProgressBar(mixture.samples, desc="tokenizing", unit="sample", disable=not progress)
    for result in judge_samples(samples, reader):
        if isinstance(result, BadSample):
            bad.append(result)
            continue
        before = video_position(result.ids)
        usable.append(result.sample)
        texts.update(result.ids.tobytes() + result.labels.tobytes())
        lengths.append((result.plan.num_frames, before, len(result.ids) - 1 - before))
    skipped = SkippedLog(skipped_file, max_bad)
    skipped.add_unusable(bad, len(mixture))
    problem = bad_set(mixture, bad, max_bad)
    if problem:
        raise BadSamplesError(problem)
    frames, prefix, suffix = np.array(lengths, np.int32).reshape(-1, 3).T
    return MixtureDataset(
        samples=tuple(usable),
        frames=frames,
        prefix=prefix,
        suffix=suffix,
        weights=tuple(mixture_set.weight for mixture_set in mixture.sets),
        texts_digest=texts.hexdigest(),
        reader=reader,
        skipped=skipped,
    )
