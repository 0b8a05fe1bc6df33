"""What is read off every optimiser step, and what happens when it is not a number."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from xcomp_jax.config import StageConfig
from xcomp_jax.data.pipeline import Batch
from xcomp_jax.processes import is_first, opened_on_first
from xcomp_jax.training.metrics import MetricsLog
from xcomp_jax.training.observe import Writer
from xcomp_jax.training.throughput import memory, rates


class NonFiniteLossError(ValueError):
    """Training left the numbers: the message names stage, step, values, samples and a file."""


@dataclasses.dataclass(frozen=True)
class Dispatched:
    """A step that the devices work at.

    metrics, work: results that may not be there yet (`train_step`, `WorkCounter`); batch: this
    process's rows; data_seconds: how long the step waited for them.
    """

    step: int
    metrics: dict[str, Any]
    work: Any
    batch: Batch
    data_seconds: float


class StepReport:
    """The progress bar, metrics.jsonl and the optional writers of one stage.

    Every process has one, since all of them stop at a loss that is not finite; the first tells.

    Args:
        row_id: what people know a row of the training set by.
    """

    def __init__(
        self,
        stage: StageConfig,
        workdir: Path,
        *,
        start: int,
        writers: tuple[Writer, ...],
        progress: bool,
        row_id: Callable[[int], str],
    ) -> None:
        self._stage, self._workdir, self._writers = stage, workdir, writers
        self._row_id = row_id
        path = workdir / "metrics.jsonl"
        self._log = opened_on_first(lambda: MetricsLog(path, stage=stage.name, resume_step=start))
        self._bar = tqdm(
            total=stage.num_steps,
            initial=start,
            desc=stage.name,
            unit="step",
            disable=not (progress and is_first()),
        )
        self.restart_clock()

    def restart_clock(self) -> None:
        """What was done since the last step is not counted as the next one's."""
        self._told = time.perf_counter()

    def tell(self, done: Dispatched) -> None:
        """Waits for the step and passes its numbers on.

        Raises:
            NonFiniteLossError: after the batch was saved.
        """
        metrics, work = jax.device_get((done.metrics, done.work))
        now = time.perf_counter()
        seconds, self._told = now - self._told, now
        values = {name: float(value) for name, value in metrics.items()}
        if values.pop("non_finite"):
            self._refuse(done, values)
        if self._log is None:
            return
        speed = rates(work, values["tokens"], seconds)
        values |= {"seconds": round(seconds, 6), "data_seconds": round(done.data_seconds, 6)}
        values |= {name: round(value, 4) for name, value in speed.items()}
        values |= memory()
        self._log.write(done.step, values.items())
        for writer in self._writers:
            writer.write(self._stage.name, done.step, values)
        self._bar.update()
        self._bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)

    def flush(self) -> None:
        """Makes the lines so far visible to readers."""
        if self._log is not None:
            self._log.flush()

    def close(self) -> None:
        """No step follows."""
        self._bar.close()
        if self._log is not None:
            self._log.close()

    def _refuse(self, done: Dispatched, values: dict[str, float]) -> None:
        folder = self._workdir / "nonfinite"
        folder.mkdir(exist_ok=True)
        name = f"{self._stage.name}-step-{done.step}-process-{jax.process_index()}.npz"
        ids = [self._row_id(row) for row in done.batch["index"].tolist()]
        fields: dict[str, Any] = {**done.batch, "ids": np.array(ids)}
        np.savez(folder / name, **fields)
        raise NonFiniteLossError(
            f"stage {self._stage.name!r}, step {done.step}: loss={values['loss']}, "
            f"grad_norm={values['grad_norm']} on the samples {ids}, saved as {folder / name}. "
            "Earlier checkpoints are untouched, and the same command comes to the same step; use a "
            "lower learning_rate or max_grad_norm for that stage, in a workdir of its own"
        )
