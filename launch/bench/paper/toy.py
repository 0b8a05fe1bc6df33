"""Trains the tiny models of the tables, one base per seed and one tuning per compression."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from xcomp_jax.config import DataConfig, ExperimentConfig
from xcomp_jax.data.synthetic.scene_sets import SceneSets, write_scene_sets
from xcomp_jax.inference.save_model import save_pretrained
from xcomp_jax.launch.bench.paper.compressions import compressions
from xcomp_jax.launch.bench.paper.layouts import Role
from xcomp_jax.models.xcomp import Params
from xcomp_jax.pretrained import from_pretrained
from xcomp_jax.sharding import make_mesh
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.training.loop import Run, run_stage
from xcomp_jax.training.observe import Observation
from xcomp_jax.training.sources import initial_params, open_datasets
from xcomp_jax.training.stopping import StopRequest
from xcomp_jax.training.workdir import claim_workdir

BASE: Role = "base"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToySizes:
    """Numbers of generated videos per seed; `long` have one question each."""

    train: int = 320
    validation: int = 32
    test: int = 64
    long: int = 64


@dataclasses.dataclass(frozen=True)
class ToySeed:
    """Tiny models of one seed, trained when they are first needed.

    recipe: two stages, base and tuning; its seed decides data, parameters and order.
    folder: data and one folder per role. Interrupted training resumes from its newest checkpoint.
    """

    recipe: ExperimentConfig
    folder: Path
    sizes: ToySizes
    observation: Observation
    stop: StopRequest

    @functools.cached_property
    def sets(self) -> SceneSets:
        """Generated videos and questions."""
        return write_scene_sets(
            self.folder / "data",
            seed=self.recipe.seed,
            progress=self.observation.progress,
            **dataclasses.asdict(self.sizes),
        )

    def checkpoint(self, role: Role) -> Path:
        """Returns the checkpoint of a role; trains it if there is none.

        Raises:
            ConfigError: the folder belongs to another recipe, or to a running process.
            Stopped: a stop was requested; see `run_stage`.
        """
        folder = self.folder / role
        if not (folder / "checkpoint").exists():
            stage = 0 if role == BASE else 1
            start = None if role == BASE else self._base_params
            train(self._config(role), stage, folder, start, self.observation, self.stop)
        return folder / "checkpoint"

    def _config(self, role: Role) -> ExperimentConfig:
        sets = self.sets
        data = DataConfig(
            source="prepared",
            train=str(sets.train_manifest),
            held_out=str(sets.validation_manifest),
            prompt_as_asked=self.recipe.data.prompt_as_asked,
        )
        base, tuning = self.recipe.stages
        compression = base.compression
        if role != BASE:
            compression = compressions(self.recipe.model)[role]
            tuning = dataclasses.replace(tuning, compression=compression)
        model = dataclasses.replace(self.recipe.model, compression=compression)
        return dataclasses.replace(self.recipe, data=data, model=model, stages=(base, tuning))

    def _base_params(self) -> Params:
        """Returns the base's parameters on the host: a stage donates those it starts from."""
        base = from_pretrained(self.checkpoint(BASE), dtype="float32", selection=None)
        return jax.device_get(base.params)


def train(
    config: ExperimentConfig,
    number: int,
    folder: Path,
    start: Callable[[], Params] | None,
    observation: Observation,
    stop: StopRequest,
) -> None:
    """Trains one stage of a recipe and writes `folder`/checkpoint.

    Args:
        number: number of the stage. start: returns the first parameters (default: random).
    """
    first = None if start is None else start()
    mesh = make_mesh(config.mesh)
    tokenizer = load_tokenizer(config.data.tokenizer)
    with claim_workdir(folder, config), jax.set_mesh(mesh):
        # Data is prepared once for all roles of a seed.
        training_set, _ = open_datasets(
            config, folder.parent, tokenizer, progress=observation.progress
        )
        run = Run(config=config, workdir=folder, mesh=mesh, observation=observation, stop=stop)
        params = run_stage(
            run,
            config.stages[number],
            initial_params(config, mesh) if first is None else first,
            training_set,
            evaluate=_no_evaluation,
        )
        save_pretrained(
            folder / "checkpoint",
            config.model,
            jax.device_get(params),
            tokenizer=tokenizer,
            sampling=config.sampling,
        )


def _no_evaluation(*_: Any) -> Any:
    raise AssertionError("the recipe has no evaluation steps")
