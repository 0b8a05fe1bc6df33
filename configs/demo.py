"""Trains the checkpoint of `xcomp demo`: the model of smoke.py on scenes with four subjects.

python -m xcomp_jax.launch.studies.demo data runs/demo-data
xcomp tune --config configs/demo.py --workdir runs/demo
python -m xcomp_jax.launch.studies.demo package runs/demo
"""

import dataclasses

from ml_collections import ConfigDict

from xcomp_jax.config import (
    CompressionConfig,
    DataConfig,
    ExperimentConfig,
    StageConfig,
    to_dict,
)
from xcomp_jax.variants import SMOKE, SMOKE_SAMPLING

BASE = StageConfig(
    name="base",
    num_steps=2000,
    batch_size=16,
    learning_rate=2e-3,
    warmup_ratio=0.05,
    beta2=0.99,
    compression=CompressionConfig(schedule="none"),
    trainable=("vision", "projector", "llm"),
    remat=True,
)


def get_config() -> ConfigDict:
    """Returns a base stage, then supervised compression tuning with LP-Comp."""
    return ConfigDict(
        to_dict(
            ExperimentConfig(
                name="demo",
                model=SMOKE,
                data=DataConfig(
                    source="prepared",
                    train="runs/demo-data/train.json",
                    held_out="runs/demo-data/held_out.json",
                    prompt_as_asked=True,
                ),
                sampling=SMOKE_SAMPLING,
                stages=(
                    BASE,
                    dataclasses.replace(
                        BASE,
                        name="sct",
                        num_steps=300,
                        learning_rate=1e-3,
                        compression=CompressionConfig(schedule="cosine", keep="suffix"),
                        trainable=("projector", "llm"),
                    ),
                ),
                save_every_steps=100,
            )
        )
    )
