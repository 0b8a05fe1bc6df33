"""Records the metrics of every optimizer step and stops the run at a non-finite loss."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from xcomp_jax.config import StageConfig
from xcomp_jax.data.pipeline import Batch
from xcomp_jax.processes import is_first, open_on_first
from xcomp_jax.terminal.progress import ProgressBar
from xcomp_jax.training.metrics import MetricsLog
from xcomp_jax.training.throughput import peak_memory, rates
from xcomp_jax.training.writers import Writer


class NonFiniteLossError(ValueError):
    """Raised when the loss or the gradient norm is NaN or infinite.

    The message gives the stage, the step, the values, the sample ids and the dump file.
    """


@dataclasses.dataclass(frozen=True)
class PendingStep:
    """A step that was dispatched to the devices and may still run.

    metrics, work: results of `train_step` and `WorkCounter`. batch: this process's rows.
    data_seconds: how long the step waited for them.
    """

    step: int
    metrics: dict[str, Any]
    work: Any
    batch: Batch
    data_seconds: float


class StepReport:
    """Updates the progress bar, metrics.jsonl and the optional writers of one stage.

    Every process has one and stops at a non-finite loss; only process 0 writes metrics.

    Args:
        row_id: returns the sample id of a row of the training set, for error messages.
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
        self._log = open_on_first(lambda: MetricsLog(path, stage=stage.name, resume_step=start))
        self._bar = ProgressBar(
            total=stage.num_steps,
            initial=start,
            desc=stage.name,
            unit="step",
            disable=not (progress and is_first()),
        )
        self.restart_clock()

    def restart_clock(self) -> None:
        """Excludes the time since the last step (evaluation, saving) from the next one."""
        self._last_time = time.perf_counter()

    def record(self, pending: PendingStep) -> None:
        """Waits for the step and records its metrics.

        Raises:
            NonFiniteLossError: the loss or gradient norm is not finite; the batch is saved first.
        """
        metrics, work = jax.device_get((pending.metrics, pending.work))
        now = time.perf_counter()
        seconds, self._last_time = now - self._last_time, now
        values = {name: float(value) for name, value in metrics.items()}
        if values.pop("non_finite"):
            self._save_and_raise(pending, values)
        if self._log is None:
            return
        speed = rates(work, values["tokens"], seconds)
        values |= {"seconds": round(seconds, 6), "data_seconds": round(pending.data_seconds, 6)}
        values |= {name: round(value, 4) for name, value in speed.items()}
        values |= peak_memory()
        self._log.write(pending.step, values.items())
        for writer in self._writers:
            writer.write(self._stage.name, pending.step, values)
        self._bar.update()
        self._bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)

    def flush(self) -> None:
        """Makes the lines so far visible to readers."""
        if self._log is not None:
            self._log.flush()

    def close(self) -> None:
        """Closes the progress bar and metrics.jsonl."""
        self._bar.close()
        if self._log is not None:
            self._log.close()

    def _save_and_raise(self, pending: PendingStep, values: dict[str, float]) -> None:
        folder = self._workdir / "nonfinite"
        folder.mkdir(exist_ok=True)
        name = f"{self._stage.name}-step-{pending.step}-process-{jax.process_index()}.npz"
        ids = [self._row_id(row) for row in pending.batch["index"].tolist()]
        fields: dict[str, Any] = {**pending.batch, "ids": np.array(ids)}
        np.savez(folder / name, **fields)
        raise NonFiniteLossError(
            f"stage {self._stage.name!r}, step {pending.step}: loss={values['loss']}, "
            f"grad_norm={values['grad_norm']} on the samples {ids}, saved as {folder / name}. "
            "Earlier checkpoints are intact, but the same command repeats this step; start a new "
            "workdir with a lower learning_rate or max_grad_norm for this stage"
        )
