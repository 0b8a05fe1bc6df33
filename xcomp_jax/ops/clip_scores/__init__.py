"""Clip scores of QC-Comp: one score per clip and segment."""

from xcomp_jax.ops.clip_scores.dispatch import IMPLEMENTATIONS, PREFERRED, clip_scores
from xcomp_jax.ops.clip_scores.reference import Segments, TextRows

__all__ = ["IMPLEMENTATIONS", "PREFERRED", "Segments", "TextRows", "clip_scores"]
