"""Parameters of a run as a checkpoint folder: for `xcomp ask`, `init_from` and `convert`."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

from xcomp_jax.checkpoint import CheckpointReader, save_params
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
from xcomp_jax.processes import is_first
from xcomp_jax.sharding import make_mesh
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.training.checkpoint import newest_params


def export(
    config: ExperimentConfig,
    stage: StageConfig,
    params: Params,
    tokenizer: Any,
    folder: Path,
    *,
    overwrite: bool = False,
) -> None:
    """Writes `folder` with parameters, the model as `stage` runs it, tokenizer and origin.

    Every process of a run calls this. Optimiser state stays behind.
    """
    source: dict[str, Any] = {
        "experiment": config.name,
        "stage": stage.name,
        "config": to_dict(config),
        "sampling": to_dict(config.sampling),
    }
    files: list[Path] = []
    with contextlib.ExitStack() as stack:
        if is_first():
            tokenizer_folder = stack.enter_context(tempfile.TemporaryDirectory())
            tokenizer.save_pretrained(tokenizer_folder)
            files = sorted(path for path in Path(tokenizer_folder).iterdir() if path.is_file())
        if config.init_from is not None:
            # What the base brought from its PyTorch life goes along, so that `convert to_torch` can
            # write the tuned model in the same layout.
            source["init_from"] = CheckpointReader(config.init_from).source
            source["hf_config"] = source["init_from"].get("hf_config", {})
            generation = Path(config.init_from) / "generation_config.json"
            files += [generation] if generation.is_file() else []
        save_params(
            folder,
            config.stage_model(stage),
            params,
            source=source,
            extra_files=files,
            overwrite=overwrite,
        )


def export_newest(workdir: Path, folder: Path) -> StageConfig:
    """Exports the newest checkpoint of a run, finished or at work, to a new `folder`.

    Returns:
        The stage it comes from.

    Raises:
        ConfigError: `workdir` holds no run, or no checkpoint yet.
        CheckpointError: `folder` exists.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise ConfigError(f"{workdir} holds no run: there is no {path.name}")
    config: ExperimentConfig = from_dict(ExperimentConfig, read_json(path))
    stage, params = newest_params(config, workdir, make_mesh(MeshConfig()))
    export(config, stage, params, load_tokenizer(config.data.tokenizer), folder)
    return stage
