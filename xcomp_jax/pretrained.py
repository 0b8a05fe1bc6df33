"""Loads and saves models by the name of a folder or of a repository on the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from xcomp_jax.config import DType, ModelConfig, SamplingConfig, SelectionConfig
    from xcomp_jax.inference.session import Session
    from xcomp_jax.token_store import TokenStore

from xcomp_jax.inference.open_session import DEFAULT_SELECTION
