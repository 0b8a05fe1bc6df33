"""The tiny experiment on a mixture: `--set` says where that and the base lie."""

import dataclasses

from ml_collections import ConfigDict

from tests.training.tiny_experiment import EXPERIMENT, SCT
from xcomp_jax.config import DataConfig, MixtureConfig, to_dict


def get_config() -> ConfigDict:
    """One stage that leaves the encoder as it is."""
    data = DataConfig(source="mixture", mixture=MixtureConfig(path="mixture.yaml"))
    return ConfigDict(
        to_dict(dataclasses.replace(EXPERIMENT, data=data, stages=(SCT,), init_from="base"))
    )
