"""Scaled dot-product attention: the definition, four implementations of it, and their choice."""

from xcomp_jax.ops.attention.dispatch import IMPLEMENTATIONS, PREFERRED, attention
from xcomp_jax.ops.attention.xla import MASKED

__all__ = ["IMPLEMENTATIONS", "MASKED", "PREFERRED", "attention"]
