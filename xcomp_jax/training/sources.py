"""Opens the datasets of a run and loads or initializes its parameters."""

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
from xcomp_jax.processes import is_first, on_every, on_first
from xcomp_jax.sharding import parameter_shardings
from xcomp_jax.training.input_files import check_features_unchanged, check_files_unchanged


def open_datasets(
    config: ExperimentConfig, workdir: Path, tokenizer: Any, *, progress: bool
) -> tuple[TrainingSet, PreparedDataset | None]:
    """Returns the training set and the held-out set, if any.

    Process 0 first generates or prepares in `workdir`/data what is missing.

    Raises:
        ConfigError, ManifestError, PrepareError, BadSamplesError: a source named in the
            configuration cannot be used, or has changed since the run started.
    """
    # An id without an embedding would yield NaN, which looks like a too high learning rate.
    if len(tokenizer) > config.model.llm.vocab_size:
        raise ConfigError(
            f"model.llm.vocab_size={config.model.llm.vocab_size} is below the {len(tokenizer)} "
            f"tokens of the tokenizer (data.tokenizer={config.data.tokenizer!r}; None: that of "
            f"init_from={config.init_from!r}, or the built-in one); increase it, or set "
            "data.tokenizer to the model's own tokenizer"
        )
    folders = on_first(lambda: _prepare(config, workdir, tokenizer, progress))
    train, held_out = on_every(
        lambda: [None if folder is None else open_prepared(Path(folder)) for folder in folders]
    )
    if train is not None:
        return train, held_out
    on_first(lambda: scan_training_mixture(config, workdir, progress=progress))
    mixture = on_every(
        lambda: open_training_mixture(
            config,
            workdir,
            tokenizer,
            process_index=jax.process_index(),
            progress=progress and is_first(),
        )
    )
    on_first(lambda: check_features_unchanged(mixture, workdir))
    return mixture, held_out


def _prepare(
    config: ExperimentConfig, workdir: Path, tokenizer: Any, progress: bool
) -> list[str | None]:
    """Returns the folders of the prepared training and held-out sets, None where there is none."""
    data, vision = config.data, config.model.vision
    folder = workdir / "data"
    sources = (Path(data.train) if data.source == "prepared" else None, _path(data.held_out))
    if data.source == "generated":
        generated = generate(
            folder,
            seed=config.seed,
            num_train_videos=data.num_train_videos,
            num_eval_videos=data.num_eval_videos,
            kinds=data.question_kinds,
            progress=progress,
        )
        sources = (generated.train_manifest, generated.eval_manifest)
    # Before a changed video is decoded or scanned.
    check_files_unchanged(config, workdir, tokenizer, [path for path in sources if path])

    def prepared_folder(source: Path) -> Path:
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

    return [None if source is None else str(prepared_folder(source)) for source in sources]


def _path(name: str) -> Path | None:
    return Path(name) if name else None


def check_init_from(config: ExperimentConfig) -> None:
    """Checks, before any data is generated, that the run can start from `init_from`.

    Raises:
        CheckpointError: `init_from` is not a checkpoint.
        ConfigError: it holds a different model.
    """
    if config.init_from is None:
        return
    model = CheckpointReader(config.init_from).model
    for part in ("vision", "projector", "llm"):
        if getattr(model, part) != getattr(config.model, part):
            raise ConfigError(
                f"init_from={config.init_from!r} holds a model with {part}="
                f"{getattr(model, part)}, but the experiment has {getattr(config.model, part)}; "
                f"change init_from or model.{part}"
            )


def initial_params(config: ExperimentConfig, mesh: Mesh) -> Params:
    """Returns float32 parameters, read from `init_from` or random, sharded over `mesh`."""
    shardings = parameter_shardings(abstract_params(config.model), mesh)
    if config.init_from is None:
        # The program runs once, so compiler optimizations would cost more time than they save.
        initialize = jax.jit(
            lambda key: init_params(config.model, key),
            out_shardings=shardings,
            compiler_options={"xla_backend_optimization_level": 0},
        )
        return initialize(jax.random.key(config.seed))
    # Training is in float32 whatever the checkpoint's dtype; each process reads its own slices.
    _, params = load_params(config.init_from, dtype="float32", shardings=shardings)
    return params
