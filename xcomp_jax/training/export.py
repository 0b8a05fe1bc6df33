"""Exports the parameters of a run as a checkpoint folder (`xcomp ask`, `init_from`, `convert`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xcomp_jax.checkpoint import TUNE, CheckpointReader, save_params
from xcomp_jax.config import (
    ConfigError,
    ExperimentConfig,
    MeshConfig,
    StageConfig,
    from_dict,
    to_dict,
)
from xcomp_jax.files import read_json
from xcomp_jax.models.xcomp import Params
from xcomp_jax.sharding import make_mesh
from xcomp_jax.training.newest_params import newest_params
from xcomp_jax.training.run_tokenizer import run_tokenizer


def export(
    config: ExperimentConfig,
    stage: StageConfig,
    params: Params,
    tokenizer: Any,
    folder: Path,
    *,
    overwrite: bool = False,
) -> None:
    """Writes the parameters, the model config of `stage`, tokenizer and provenance to `folder`.

    Every process of a run calls this. Optimizer state is not exported.
    """
    source: dict[str, Any] = {
        "experiment": config.name,
        "stage": stage.name,
        "config": to_dict(config),
        "sampling": to_dict(config.sampling),
    }
    files: list[Path] = []
    if config.init_from is not None:
        # `xcomp convert to-torch` needs these of a converted base to restore its layout.
        source["init_from"] = CheckpointReader(config.init_from).source
        source["hf_config"] = source["init_from"].get("hf_config", {})
        generation = Path(config.init_from) / "generation_config.json"
        files += [generation] if generation.is_file() else []
    save_params(
        folder,
        config.stage_model(stage),
        params,
        source=source,
        tokenizer=tokenizer,
        extra_files=files,
        writer=TUNE,
        overwrite=overwrite,
    )


def export_newest(workdir: Path, folder: Path) -> StageConfig:
    """Exports the newest checkpoint of a finished or running run to a new `folder`.

    Returns:
        The stage of that checkpoint.

    Raises:
        ConfigError: `workdir` holds no run, or no checkpoint yet.
        CheckpointError: `folder` exists.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise ConfigError(f"{workdir} holds no run: there is no {path.name}")
    config: ExperimentConfig = from_dict(ExperimentConfig, read_json(path))
    stage, params = newest_params(config, workdir, make_mesh(MeshConfig()))
    export(config, stage, params, run_tokenizer(config), folder)
    return stage
