"""Published recipe: compression tuning of VideoChat-Flash-2B (arXiv 2604.14149, section 4.1).

    xcomp convert from-torch VideoChat-Flash-Qwen2_5-2B_res448 checkpoints/base-2b
    xcomp tune --config configs/xcomp_2b.py --workdir runs/xcomp-2b

71,927 samples (2.5 % of the base's stage-3 mixture), one epoch: 2,247 steps of 32.
"""

from ml_collections import ConfigDict

from xcomp_jax.config import (
    CompressionConfig,
    DataConfig,
    ExperimentConfig,
    MeshConfig,
    MixtureConfig,
    SamplingConfig,
    StageConfig,
    to_dict,
)
from xcomp_jax.variants import XCOMP_2B


def get_config() -> ConfigDict:
    """Returns one stage that trains projector and language model; the encoder is frozen."""
    return ConfigDict(
        to_dict(
            ExperimentConfig(
                name="xcomp_2b",
                model=XCOMP_2B,
                data=DataConfig(
                    source="mixture",
                    # The published share of each dataset; the yaml file holds a tenth of most.
                    mixture=MixtureConfig(path="data/mixture.yaml", end=0.25, shuffle_seed=42),
                    tokenizer="Qwen/Qwen2.5-1.5B-Instruct",
                    max_text_tokens=2048,
                ),
                sampling=SamplingConfig(fps=8, min_frames=128, max_frames=1024, cut_by="mean_rate"),
                stages=(
                    StageConfig(
                        name="sct",
                        num_steps=2247,
                        batch_size=32,
                        accumulate_steps=-1,
                        learning_rate=1e-5,
                        warmup_ratio=0.03,
                        compression=CompressionConfig(schedule="cosine", keep="suffix"),
                        trainable=("projector", "llm"),
                        loss_average="examples",
                        projector_learns_below_frames=512,
                        remat=True,
                    ),
                ),
                # One example per device; with more than 32 devices, several share a video.
                mesh=MeshConfig(fsdp=-1, context=-1),
                init_from="checkpoints/base-2b",
                save_every_steps=200,
                eval_batch_size=1,
            )
        )
    )
