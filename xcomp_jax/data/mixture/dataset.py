"""A mixture, ready to train on: which samples can be used, how long they are, and their examples.

Nothing is decoded to know lengths: the number of frames follows from what `scan` found, and texts
are tokenised once, here. A sample that cannot be used is left out before the first step when that
shows from its text or its length. One whose file breaks only when it is read stays in its place,
with zeros for pixels, no labels and weight 0: the order of all others and the shapes that other
processes build at the same time do not change, and no process has to be told.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xcomp_jax.data.mixture.buckets import Bucket, EpochPlanner, halvings
from xcomp_jax.data.mixture.reader import MixtureReader
from xcomp_jax.data.mixture.samples import Mixture, Sample
from xcomp_jax.data.mixture.skipped import SkippedLog
from xcomp_jax.data.padding import (
    PREFIX_MULTIPLE,
    SUFFIX_MULTIPLE,
    Example,
    padded,
    round_up,
    text_fields,
    video_position,
)
from xcomp_jax.data.tokens import RowError
from xcomp_jax.text.prompts import IGNORE
from xcomp_jax.token_store import TokenStoreError
from xcomp_jax.video.errors import VideoError

FRAME_BUCKETS = 4
"""How many buckets of frames there are unless `MixtureConfig.frame_buckets` lists them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureDataset:
    """The usable samples of a mixture, in its order.

    frames, prefix, suffix: int32 [N], their lengths: frames, and tokens before and after the video.
    weights: passes over each set in an epoch.
    texts_digest: changes when any token or label of a sample does.
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
        """What people know a row by; ids alone may repeat from set to set."""
        sample = self.samples[row]
        return f"{sample.id} of {sample.media.path}"

    @property
    def fingerprint(self) -> str:
        """Equal on all processes of a run that build the same batches."""
        facts = [
            [[one.id, one.set, dataclasses.astuple(one.media)] for one in self.samples],
            [array.tolist() for array in (self.frames, self.prefix, self.suffix)],
            [self.weights, self.frame_limits, self.suffix_limits],
            self.texts_digest,
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @property
    def frame_limits(self) -> tuple[int, ...]:
        """Frames that batches of videos are padded to."""
        clip = self.reader.clip_frames
        limits = self.reader.config.frame_buckets or halvings(
            self.reader.sampling.max_frames, FRAME_BUCKETS, multiple=clip
        )
        return tuple(round_up(limit, clip) for limit in limits)

    @property
    def suffix_limits(self) -> tuple[int, ...]:
        """Tokens after the video that batches are padded to."""
        longest = self.reader.max_text_tokens
        limits = self.reader.config.text_buckets or halvings(longest, 3, multiple=1)[::2]
        return tuple(round_up(limit, SUFFIX_MULTIPLE) for limit in limits)

    @property
    def bytes_per_example(self) -> int:
        """Of the pixels or features of an example of the largest bucket."""
        return max(self.frame_limits) * self.reader.bytes_per_frame

    def planner(self, batch_size: int, seed: int) -> EpochPlanner:
        """Which rows make up which batch; raises ValueError as `EpochPlanner`."""
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

    def example(self, row: int, bucket: Bucket) -> Example:
        """One example, padded to `bucket`; fields as in `data.pipeline`.

        Raises:
            BadSamplesError: too many could not be read.
        """
        sample, reader = self.samples[row], self.reader
        plan = reader.plan(sample)
        ids, labels = reader.tokens(sample, plan)
        weight = 1
        try:
            visual = reader.visual(sample, plan)
            self.skipped.good()
        except (VideoError, TokenStoreError) as error:
            self.skipped.bad(sample, str(error))
            visual, weight = reader.nothing(plan), 0
            labels = np.full_like(labels, IGNORE)
        prefix = round_up(int(self.prefix.max()), PREFIX_MULTIPLE)
        return {
            reader.field: padded(visual, bucket.frames * reader.rows_per_frame, 0),
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
    """A mixture whose files were scanned, as something to train on; opens no image or video.

    Args:
        skipped_file: where bad samples are written down, one file a process.

    Raises:
        BadSamplesError: more samples are unusable than `reader.config.max_bad` allows.
    """
    usable: list[Sample] = []
    unusable: list[tuple[Sample, str]] = []
    lengths: list[tuple[int, int, int]] = []
    texts = hashlib.sha256()
    for sample in tqdm(mixture.samples, desc="tokenising", unit="sample", disable=not progress):
        try:
            plan = reader.plan(sample)
            reader.require(sample, plan)
            ids, labels = reader.tokens(sample, plan)
        except (RowError, VideoError, TokenStoreError) as error:
            unusable.append((sample, str(error)))
            continue
        before = video_position(ids)
        usable.append(sample)
        texts.update(ids.tobytes() + labels.tobytes())
        lengths.append((plan.num_frames, before, len(ids) - 1 - before))
    skipped = SkippedLog(skipped_file, reader.config.max_bad)
    skipped.leave_out(unusable, len(mixture.samples))
    frames, prefix, suffix = np.array(lengths, np.int32).reshape(-1, 3).T
    return MixtureDataset(
        samples=tuple(usable),
        frames=frames,
        prefix=prefix,
        suffix=suffix,
        weights=tuple(one.weight for one in mixture.sets),
        texts_digest=texts.hexdigest(),
        reader=reader,
        skipped=skipped,
    )
