"""The tiny experiment with one stage, for tests of several processes."""

import dataclasses

from ml_collections import ConfigDict

from tests.training.tiny_experiment import EXPERIMENT, SCT
from xcomp_jax.config import to_dict


def get_config() -> ConfigDict:
    """Everything learns, with compression, for eight steps."""
    stage = dataclasses.replace(SCT, num_steps=8, trainable=("vision", "projector", "llm"))
    return ConfigDict(to_dict(dataclasses.replace(EXPERIMENT, stages=(stage,))))
