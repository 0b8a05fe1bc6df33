"""XComp in JAX: one token per highly selective frame (NeurIPS 2025, arXiv 2604.14149).

`compression/` decides (pure functions on Python integers), `models/` computes (Flax Linen),
`video/` and `text/` bring the world in, `inference/` answers, `training/` tunes.
"""

__version__ = "0.1.0"
