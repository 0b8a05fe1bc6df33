"""Recipe of the tiny models of `xcomp bench paper`: a base and a short tuning.

The bench generates the data and replaces the compression of the second stage.
"""

import dataclasses

from ml_collections import ConfigDict

from xcomp_jax.config import DataConfig, ExperimentConfig, SamplingConfig, to_dict
from xcomp_jax.configs.schedules_in_small import BASE, MODEL, TUNING


def get_config() -> ConfigDict:
    """Returns the experiment of one seed."""
    return ConfigDict(
        to_dict(
            ExperimentConfig(
                name="paper_in_small",
                model=MODEL,
                data=DataConfig(
                    source="prepared",
                    train="train.json",
                    held_out="validation.json",
                    prompt_as_asked=True,
                ),
                # One frame of each of the four scenes.
                sampling=SamplingConfig(fps=4, min_frames=4, max_frames=4),
                stages=(
                    dataclasses.replace(BASE, num_steps=1200),
                    dataclasses.replace(TUNING, num_steps=200),
                ),
                save_every_steps=200,
                eval_batch_size=48,
            )
        )
    )
