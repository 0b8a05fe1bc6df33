"""Evaluates a run on its held-out questions and stores the results in its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xcomp_jax.config import CompressionConfig, StageConfig
from xcomp_jax.data.prepared.dataset import PreparedDataset
from xcomp_jax.files import read_json, write_json
from xcomp_jax.models.xcomp import Params
from xcomp_jax.processes import is_first, on_first
from xcomp_jax.training.evaluate import Evaluation, evaluate
from xcomp_jax.training.run import Run


@dataclasses.dataclass(frozen=True)
class HeldOutEvaluator:
    """Evaluates the parameters of a run on its held-out questions."""

    run: Run
    tokenizer: Any
    held_out: PreparedDataset | None

    def during(self, stage: StageConfig, params: Params) -> Evaluation:
        """Evaluates between two steps of `stage`."""
        return self._evaluate(stage.name, stage.compression, params)

    def stored(self, label: str, compression: CompressionConfig, params: Params) -> Evaluation:
        """Returns the evaluation in evaluation_LABEL.json, which it first computes if missing."""
        path = self.run.workdir / f"evaluation_{label}.json"
        return _load_or_compute(path, lambda: self._announced(label, compression, params))

    def _announced(self, label: str, compression: CompressionConfig, params: Params) -> Evaluation:
        assert self.held_out is not None, "only called with held-out questions"
        self.run.observation.announce(
            f"Evaluation {label!r}: answering {len(self.held_out):,} held-out questions, "
            f"compression schedule {compression.schedule!r}"
        )
        return self._evaluate(label, compression, params)

    def _evaluate(self, label: str, compression: CompressionConfig, params: Params) -> Evaluation:
        assert self.held_out is not None, "evaluate_every_steps requires held-out questions"
        config = self.run.config
        return evaluate(
            dataclasses.replace(config.model, compression=compression),
            params,
            self.held_out,
            self.tokenizer,
            mesh=self.run.mesh,
            batch_size=config.eval_batch_size,
            label=f"evaluate {label}",
            progress=self.run.observation.progress,
        )


def _load_or_compute(path: Path, compute: Callable[[], Evaluation]) -> Evaluation:
    values = on_first(lambda: read_json(path) if path.exists() else None)
    if values is not None:
        kinds = {kind: (right, asked) for kind, (right, asked) in values["by_kind"].items()}
        return Evaluation(right=values["right"], asked=values["asked"], by_kind=kinds)
    evaluation = compute()
    if is_first():
        write_json(path, {"accuracy": evaluation.accuracy, **dataclasses.asdict(evaluation)})
    return evaluation
