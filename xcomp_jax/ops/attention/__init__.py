"""Scaled dot-product attention: the definition, its implementations, and their selection."""

from xcomp_jax.ops.attention.dispatch import IMPLEMENTATIONS, PREFERRED, attention, padded_length
from xcomp_jax.ops.attention.xla import MASKED

__all__ = ["IMPLEMENTATIONS", "MASKED", "PREFERRED", "attention", "padded_length"]
