"""Frozen, validated schema of every model and every run.

A configuration file (`configs/*.py`) defines `get_config() -> ml_collections.ConfigDict`, which is
converted to these dataclasses once; each module receives only its own part. Field names of the
language model follow Hugging Face's Qwen2; derived values are properties, never fields.
"""

from xcomp_jax.config.evaluation import ProtocolConfig, PublishedScore
from xcomp_jax.config.experiment import (
    BenchmarkConfig,
    DataConfig,
    ExperimentConfig,
    MixtureConfig,
)
from xcomp_jax.config.mesh import mesh_on, on_devices
from xcomp_jax.config.model import (
    AttentionKernel,
    CachedAttentionKernel,
    ClipScoresKernel,
    CompressionConfig,
    DType,
    KernelConfig,
    LLMConfig,
    ModelConfig,
    ProjectorConfig,
    Ranking,
    VisionConfig,
)
from xcomp_jax.config.schema import (
    ConfigError,
    from_dict,
    joined_names,
    to_dict,
    type_at,
)
from xcomp_jax.config.training import (
    TRAINABLE_PARTS,
    LoRAConfig,
    MeshConfig,
    PartRates,
    Projection,
    StageConfig,
)
from xcomp_jax.config.video import (
    SamplingConfig,
    SelectionConfig,
)

__all__ = [
    "TRAINABLE_PARTS",
    "AttentionKernel",
    "BenchmarkConfig",
    "CachedAttentionKernel",
    "ClipScoresKernel",
    "CompressionConfig",
    "ConfigError",
    "DType",
    "DataConfig",
    "ExperimentConfig",
    "KernelConfig",
    "LLMConfig",
    "LoRAConfig",
    "MeshConfig",
    "MixtureConfig",
    "ModelConfig",
    "PartRates",
    "Projection",
    "ProjectorConfig",
    "ProtocolConfig",
    "PublishedScore",
    "Ranking",
    "SamplingConfig",
    "SelectionConfig",
    "StageConfig",
    "VisionConfig",
    "from_dict",
    "joined_names",
    "mesh_on",
    "on_devices",
    "to_dict",
    "type_at",
]
