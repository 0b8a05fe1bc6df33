"""What a run learns from and where its parameters begin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from xcomp_jax.checkpoint import CheckpointReader, load_params
from xcomp_jax.config import ConfigError, ExperimentConfig
from xcomp_jax.data.mixture.experiment import open_training_mixture, scan_training_mixture
from xcomp_jax.data.prepared.dataset import PreparedDataset, open_prepared
from xcomp_jax.data.prepared.prepare import prepare
from xcomp_jax.data.synthetic.generate import generate
from xcomp_jax.data.training_set import TrainingSet
from xcomp_jax.models.xcomp import Params, abstract_params, init_params
from xcomp_jax.processes import is_first, on_first
from xcomp_jax.sharding import parameter_shardings


def open_datasets(
    config: ExperimentConfig, workdir: Path, tokenizer: Any, *, progress: bool
) -> tuple[TrainingSet, PreparedDataset | None]:
    """For training and held out; process 0 makes what is not there, in `workdir`/data.

    Raises:
        ConfigError, ManifestError, PrepareError, BadSamplesError: what the configuration names
            cannot be used.
    """
    # An id without an embedding would be read as NaN, and blamed on the learning rate.
    if len(tokenizer) > config.model.llm.vocab_size:
        raise ConfigError(
            f"model.llm.vocab_size={config.model.llm.vocab_size} has no embeddings for all "
            f"{len(tokenizer)} tokens of data.tokenizer={config.data.tokenizer!r} (None is the "
            "built-in one): set it to at least that, or name the model's own tokenizer"
        )
    folders = on_first(lambda: _make(config, workdir / "data", tokenizer, progress))
    train, held_out = (None if one is None else open_prepared(Path(one)) for one in folders)
    if train is not None:
        return train, held_out
    on_first(lambda: scan_training_mixture(config, workdir, progress=progress))
    mixture = open_training_mixture(
        config,
        workdir,
        tokenizer,
        process_index=jax.process_index(),
        progress=progress and is_first(),
    )
    return mixture, held_out


def _make(
    config: ExperimentConfig, folder: Path, tokenizer: Any, progress: bool
) -> list[str | None]:
    """Folders of the prepared sets, for training and held out, where there are such."""
    data, vision = config.data, config.model.vision
    sources = (Path(data.train) if data.source == "prepared" else None, _path(data.held_out))
    if data.source == "generated":
        made = generate(
            folder,
            seed=config.seed,
            num_train_videos=data.num_train_videos,
            num_eval_videos=data.num_eval_videos,
            kinds=data.question_kinds,
            progress=progress,
        )
        sources = (made.train_manifest, made.eval_manifest)

    def prepared(source: Path) -> Path:
        if source.is_dir():
            return source
        return prepare(
            source,
            folder / "prepared",
            sampling=config.sampling,
            image_size=vision.image_size,
            clip_frames=vision.clip_frames,
            tokenizer=tokenizer,
            max_text_tokens=data.max_text_tokens,
            prompt_as_asked=data.prompt_as_asked,
            progress=progress,
        ).folder

    return [None if source is None else str(prepared(source)) for source in sources]


def _path(name: str) -> Path | None:
    return Path(name) if name else None


def check_init_from(config: ExperimentConfig) -> None:
    """Before anything is made for a run that could not begin.

    Raises:
        CheckpointError: `init_from` is no checkpoint.
        ConfigError: it holds another model.
    """
    if config.init_from is None:
        return
    model = CheckpointReader(config.init_from).model
    for part in ("vision", "projector", "llm"):
        if getattr(model, part) != getattr(config.model, part):
            raise ConfigError(
                f"init_from={config.init_from!r} holds a model with {part}="
                f"{getattr(model, part)}, the experiment wants {getattr(config.model, part)}"
            )


def initial_params(config: ExperimentConfig, mesh: Mesh) -> Params:
    """From `init_from`, or random; float32, where the mesh wants them."""
    shardings = parameter_shardings(abstract_params(config.model), mesh)
    if config.init_from is None:
        # Drawn once: what the compiler's optimisations cost is more than they save.
        draw = jax.jit(
            lambda key: init_params(config.model, key),
            out_shardings=shardings,
            compiler_options={"xla_backend_optimization_level": 0},
        )
        return draw(jax.random.key(config.seed))
    # Trained in float32 whatever the checkpoint holds; each process reads its own slices.
    _, params = load_params(config.init_from, dtype="float32", shardings=shardings)
    return params
