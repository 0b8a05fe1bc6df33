"""Defines the tiny experiment with a single stage, for tests of several processes."""

import dataclasses

from ml_collections import ConfigDict

from tests.training.tiny_experiment import EXPERIMENT, SCT
from xcomp_jax.config import to_dict


def get_config() -> ConfigDict:
    """Returns one stage of eight steps that trains all parts with compression."""
    stage = dataclasses.replace(SCT, num_steps=8, trainable=("vision", "projector", "llm"))
    return ConfigDict(to_dict(dataclasses.replace(EXPERIMENT, stages=(stage,))))
