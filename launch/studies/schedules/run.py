"""The runs of one seed: a base, then every condition that has no result yet."""

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
from xcomp_jax.files import read_json, write_json
from xcomp_jax.launch.studies.schedules.conditions import Condition
from xcomp_jax.models.xcomp import Params
from xcomp_jax.sharding import make_mesh
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.training.evaluate import Evaluation, evaluate, text_only_accuracy
from xcomp_jax.training.loop import Run, run_stage
from xcomp_jax.training.observe import Observation
from xcomp_jax.training.sources import initial_params, open_datasets
from xcomp_jax.training.stopping import StopRequest
from xcomp_jax.training.workdir import claim_workdir


@dataclasses.dataclass(frozen=True)
class Result:
    """What one condition answered with one seed; `chance` from the questions alone."""

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
    """Yields the result of each condition as soon as it is known, in order.

    Leaves NAME/result.json for each condition in `folder`, made of the same base parameters; what
    is there is read, not run again, and training goes on from its newest checkpoint.

    Args:
        recipe: two stages, the base without compression and the tuning, whose compression is the
            condition's; everything random in data, parameters and order follows from its seed.

    Raises:
        ConfigError: `recipe` has another number of stages, or `folder` belongs to another recipe or
            to a running process.
        Stopped: see `run_stage`.
    """
    if len(recipe.stages) != 2:
        raise ConfigError(
            f"this comparison needs two stages, a base and its tuning, and {recipe.name!r} has "
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
            return _once(folder / "result.json", lambda: self._made(condition, config, folder))

    def _made(self, condition: Condition, config: ExperimentConfig, folder: Path) -> Result:
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
        """On the host, since a stage gives up the parameters it begins with."""
        begin = initial_params(self.recipe, self.mesh)
        return jax.device_get(self._trained(self.recipe, 0, self.folder, begin))

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
        return run_stage(run, config.stages[number], params, self._datasets[0], evaluate=_never)

    @functools.cached_property
    def _datasets(self) -> tuple[PreparedDataset, PreparedDataset]:
        train, held_out = open_datasets(
            self.recipe, self.folder, self._tokenizer, progress=self.observation.progress
        )
        if not isinstance(train, PreparedDataset) or held_out is None:
            raise ConfigError(
                "this comparison needs one set to learn from and one held out: data.source="
                f"{self.recipe.data.source!r} must be 'generated' or 'prepared'"
            )
        return train, held_out

    @functools.cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.recipe.data.tokenizer)


def _once(path: Path, make: Callable[[], Result]) -> Result:
    """The stored result if there is one, else makes and stores it."""
    if not path.exists():
        write_json(path, dataclasses.asdict(make()))
    return read_result(path)


def read_result(path: Path) -> Result:
    """Of one condition and seed.

    Raises:
        ValueError: the file is damaged; says which and what to do.
    """
    stored = read_json(path)
    counts = stored["evaluation"]
    by_kind = {kind: (right, asked) for kind, (right, asked) in counts["by_kind"].items()}
    return Result(Evaluation(counts["right"], counts["asked"], by_kind), stored["chance"])


def _never(*_: Any) -> Any:
    raise AssertionError("the recipe asks for no evaluation during a stage")
