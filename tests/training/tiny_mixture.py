"""Defines the tiny experiment on a data mixture; tests set its paths with `--set`."""

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
