"""Train and evaluate the conditions of one seed that have no result yet."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from xcomp_jax.config import ConfigError, ExperimentConfig
from xcomp_jax.data.prepared.dataset import PreparedDataset
from xcomp_jax.data.training_set import TrainingSet
from xcomp_jax.files import read_json, write_json
from xcomp_jax.launch.studies.schedules.conditions import Condition
from xcomp_jax.models.xcomp import Params
from xcomp_jax.sharding import make_mesh
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.training.evaluate import Evaluation, evaluate, text_only_accuracy
from xcomp_jax.training.loop import run_stage
from xcomp_jax.training.observe import Observation
from xcomp_jax.training.run import Run
from xcomp_jax.training.sources import initial_params, open_datasets
from xcomp_jax.training.stopping import StopRequest
from xcomp_jax.training.workdir import claim_workdir


@dataclasses.dataclass(frozen=True)
class Result:
    """Evaluation of one condition with one seed; `chance`: accuracy from the questions alone."""

    evaluation: Evaluation
    chance: float


def results_of_seed(
    recipe: ExperimentConfig,
    folder: Path,
    conditions: Sequence[Condition],
    *,
    observation: Observation,
    stop: StopRequest,
) -> Iterator[Result]:
    """Yields the results of all conditions in order, each as soon as it is complete.

    Writes NAME/result.json for each condition into `folder`. Existing results are read instead of
    run again, and interrupted training resumes from its newest checkpoint. All conditions start
    from the same base parameters.

    Args:
        recipe: an experiment of two stages: the base without compression, and the tuning, whose
            compression each condition replaces. Its seed decides data, parameters and order.

    Raises:
        ConfigError: `recipe` does not have two stages, or `folder` belongs to another recipe or to
            a running process.
        Stopped: a stop was requested; see `run_stage`.
    """
    if len(recipe.stages) != 2:
        raise ConfigError(
            f"the recipe must have two stages, a base and its tuning, and {recipe.name!r} has "
            f"{len(recipe.stages)}: {[stage.name for stage in recipe.stages]}"
        )
    with claim_workdir(folder, recipe):
        mesh = make_mesh(recipe.mesh)
        with jax.set_mesh(mesh):
            seed = _Seed(recipe, folder, mesh, observation, stop)
            for condition in conditions:
                yield seed.result(condition)


@dataclasses.dataclass(frozen=True)
class _Seed:
    recipe: ExperimentConfig
    folder: Path
    mesh: Mesh
    observation: Observation
    stop: StopRequest

    def result(self, condition: Condition) -> Result:
        compression = condition.compression
        model = dataclasses.replace(self.recipe.model, compression=compression)
        config = dataclasses.replace(self.recipe, model=model)
        if condition.learned:
            base, tuning = self.recipe.stages
            tuning = dataclasses.replace(tuning, compression=compression)
            config = dataclasses.replace(config, stages=(base, tuning))
        folder = self.folder / condition.name
        with claim_workdir(folder, config):
            return _stored(folder / "result.json", lambda: self._run(condition, config, folder))

    def _run(self, condition: Condition, config: ExperimentConfig, folder: Path) -> Result:
        params = self._base
        if condition.learned:
            params = self._trained(config, 1, folder, params)
        _, held_out = self._datasets
        evaluation = evaluate(
            config.model,
            params,
            held_out,
            self._tokenizer,
            mesh=self.mesh,
            batch_size=config.eval_batch_size,
            label=f"evaluate {condition.name}",
            progress=self.observation.progress,
        )
        return Result(evaluation, text_only_accuracy(held_out))

    @functools.cached_property
    def _base(self) -> Params:
        """Base parameters on the host, because a stage donates the parameters it starts from."""
        initial = initial_params(self.recipe, self.mesh)
        return jax.device_get(self._trained(self.recipe, 0, self.folder, initial))

    def _trained(
        self, config: ExperimentConfig, number: int, folder: Path, params: Params
    ) -> Params:
        run = Run(
            config=config,
            workdir=folder,
            mesh=self.mesh,
            observation=self.observation,
            stop=self.stop,
        )
        return run_stage(
            run, config.stages[number], params, self._datasets[0], evaluate=_no_evaluation
        )

    @functools.cached_property
    def _datasets(self) -> tuple[TrainingSet, PreparedDataset]:
        train, held_out = open_datasets(
            self.recipe, self.folder, self._tokenizer, progress=self.observation.progress
        )
        if self.recipe.data.source == "mixture" or held_out is None:
            raise ConfigError(
                "the recipe needs a training set and a held-out set: data.source="
                f"{self.recipe.data.source!r} must be 'generated' or 'prepared'"
            )
        return train, held_out

    @functools.cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.recipe.data.tokenizer)


def _stored(path: Path, compute: Callable[[], Result]) -> Result:
    """Reads the result at `path`, which is computed and written first if it is missing."""
    if not path.exists():
        write_json(path, dataclasses.asdict(compute()))
    return read_result(path)


def read_result(path: Path) -> Result:
    """Reads the result of one condition and seed.

    Raises:
        ValueError: the file is damaged.
    """
    stored = read_json(path)
    counts = stored["evaluation"]
    by_kind = {kind: (right, total) for kind, (right, total) in counts["by_kind"].items()}
    return Result(Evaluation(counts["right"], counts["asked"], by_kind), stored["chance"])


def _no_evaluation(*_: Any) -> Any:
    raise AssertionError("the recipe has no evaluation steps")
