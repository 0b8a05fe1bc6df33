"""Decides which samples of a mixture can be used, in `xcomp scan` as in a run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from xcomp_jax.data.messages import shown
from xcomp_jax.data.mixture.reader import MixtureReader
from xcomp_jax.data.mixture.samples import BadSample, Mixture, Sample
from xcomp_jax.data.mixture.sets import MixtureError
from xcomp_jax.data.tokens import LongRowError, RowError, check_conversation
from xcomp_jax.token_store import TokenStoreError
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.sampling import FramePlan

MAX_BAD_OF_A_SET = 0.5
"""Largest allowed share of bad samples in one set, unless `max_bad` is larger."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UsableSample:
    """A sample with its frames and tokens, (input_ids, labels), int32 [S] each."""

    sample: Sample
    plan: FramePlan
    ids: np.ndarray
    labels: np.ndarray


def judge_samples(
    samples: Iterable[Sample], reader: MixtureReader
) -> Iterator[UsableSample | BadSample]:
    """Yields each sample with what a run reads before its first step, or the reason against it.

    Opens no image or video: the table of the scan decides about files.
    """
    for sample in samples:
        try:
            plan = reader.plan(sample)
            reader.require_features(sample, plan)
            ids, labels = reader.tokens(sample, plan)
        except LongRowError as error:
            yield BadSample.of(sample, "text too long", str(error))
        except RowError as error:
            yield BadSample.of(sample, "invalid conversation", str(error))
        except VideoError as error:
            yield BadSample.of(sample, "bad file", str(error))
        except TokenStoreError as error:
            yield BadSample.of(sample, "features not stored", str(error))
        else:
            yield UsableSample(sample=sample, plan=plan, ids=ids, labels=labels)


def check_entries(mixture: Mixture, *, max_bad: float, prompt_as_asked: bool) -> None:
    """Checks before any file is opened that most entries of every set can be used.

    Raises:
        MixtureError: they cannot; the message names the set and the first reason.
    """
    bad = list(mixture.bad)
    for sample in mixture.samples:
        try:
            check_conversation(sample.id, sample.conversations, prompt_as_asked=prompt_as_asked)
        except RowError as error:
            bad.append(BadSample.of(sample, "invalid conversation", str(error)))
    problem = bad_set(mixture, bad, max_bad)
    if problem:
        raise MixtureError(problem)


def bad_set(mixture: Mixture, bad: Sequence[BadSample], max_bad: float) -> str | None:
    """Returns a sentence about the first set most of whose samples are bad, None without one."""
    totals = mixture.set_sizes
    counts = Counter(sample.set for sample in bad)
    for number in sorted(counts):
        if counts[number] <= max(max_bad, MAX_BAD_OF_A_SET) * totals[number]:
            continue
        first = min((s for s in bad if s.set == number), key=lambda sample: sample.entry)
        return (
            f"{counts[number]} of {totals[number]} samples of set "
            f"{mixture.sets[number].json_path!r} are bad, which is most of them; "
            f"{describe_entry(first)}: {first.message.rstrip('.')}. Correct the set, or remove it "
            "from the mixture."
        )
    return None


def describe_entry(sample: BadSample) -> str:
    """Returns the number of an entry in its file and its id."""
    return f"entry {sample.entry} (id {shown(sample.id)})"
