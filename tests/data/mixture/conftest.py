"""Provides the example mixture and its scan, written once per test module."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.mixture.example_mixture import write_mixture
from xcomp_jax.config import MixtureConfig
from xcomp_jax.data.mixture.samples import load_mixture
from xcomp_jax.data.mixture.scan import scan
from xcomp_jax.data.mixture.scan_table import Table


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> MixtureConfig:
    return write_mixture(tmp_path_factory.mktemp("mixture"))


@pytest.fixture(scope="module")
def table(config: MixtureConfig) -> Table:
    samples = load_mixture(config).samples
    path = Path(config.root) / "scan.csv"
    return scan(samples, Path(config.root), path, workers=2, progress=False)
