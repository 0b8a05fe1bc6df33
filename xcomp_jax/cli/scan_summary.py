"""Prints the result of `xcomp scan`: files by status, samples by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:
    from xcomp_jax.data.mixture.samples import BadSample, Mixture
    from xcomp_jax.data.mixture.scan_table import MediaReport

MAX_LISTED = 5
"""Number of bad files, and of sets without samples, that the summary lists."""


def print_files(reports: Sequence[MediaReport], root: Path) -> None:
    """Prints the number of files of every status and the first bad ones."""
    from xcomp_jax.data.messages import spelling_hint
    from xcomp_jax.data.mixture.scan_table import Status

    for status in get_args(Status):
        samples = [report.samples for report in reports if report.status == status]
        print(f"{status:>10}: {len(samples)} files, {sum(samples)} samples")
    bad = [report for report in reports if report.status != "ok"]
    for report in bad[:MAX_LISTED]:
        path = root / report.media.path
        hint = spelling_hint(path) if report.status == "missing" else ""
        print(f"  {report.status}: {str(path)!r}: {report.reason}{hint}")
    if len(bad) > MAX_LISTED:
        print(f"  and {len(bad) - MAX_LISTED} more")


def print_samples(mixture: Mixture, bad: Sequence[BadSample]) -> None:
    """Prints the number of usable samples, and of bad and left out ones by reason."""
    from xcomp_jax.data.mixture.judge import describe_entry

    print(f"samples: {len(mixture) - len(bad)} of {len(mixture)} usable")
    bad_counts: Counter[str] = Counter(sample.reason for sample in bad)
    for reason, count in bad_counts.most_common():
        group = (sample for sample in bad if sample.reason == reason)
        first = min(group, key=lambda sample: (sample.set, sample.entry))
        print(
            f"  {count} bad, {reason}: set {mixture.sets[first.set].json_path!r}, "
            f"{describe_entry(first)}: {first.message}"
        )
    left_out: Counter[str] = Counter()
    for (_, left_out_reason), count in mixture.left_out.items():
        left_out[left_out_reason] += count
    for reason, count in left_out.most_common():
        print(f"  {count} left out, {reason}")
    usable = mixture.set_sizes
    usable.subtract(sample.set for sample in bad)
    empty = [s.json_path for number, s in enumerate(mixture.sets) if not usable[number]]
    for name in empty[:MAX_LISTED]:
        print(f"  set {name!r} has no usable sample")
    if len(empty) > MAX_LISTED:
        print(f"  and {len(empty) - MAX_LISTED} more sets")
