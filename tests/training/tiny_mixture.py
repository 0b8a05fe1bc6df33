"""The tiny experiment on a data mixture; `--set` gives the paths of mixture and base model."""

import dataclasses

from ml_collections import ConfigDict

from tests.training.tiny_experiment import EXPERIMENT, SCT
from xcomp_jax.config import DataConfig, MixtureConfig, to_dict


def get_config() -> ConfigDict:
    """Returns one stage with a frozen encoder."""
    data = DataConfig(source="mixture", mixture=MixtureConfig(path="mixture.yaml"))
    return ConfigDict(
        to_dict(dataclasses.replace(EXPERIMENT, data=data, stages=(SCT,), init_from="base"))
    )
