"""A whole run in a folder: data, stages, evaluation, report. Run again, it continues where it
stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from xcomp_jax.checkpoint import CheckpointReader, load_params, save_params
from xcomp_jax.config import CompressionConfig, ConfigError, ExperimentConfig, to_dict
from xcomp_jax.data.dataset import PreparedDataset, open_prepared
from xcomp_jax.data.generated import generate
from xcomp_jax.data.manifest import load_manifest
from xcomp_jax.data.prepared import prepare
from xcomp_jax.files import read_json, write_json
from xcomp_jax.models.xcomp import Params, abstract_params, init_params
from xcomp_jax.sharding import make_mesh, parameter_shardings
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.training.evaluate import Evaluation, evaluate, text_only_accuracy
from xcomp_jax.training.loop import run_stage
from xcomp_jax.training.metrics import read_metrics
from xcomp_jax.training.report import Outcome, write_report


def tune(config: ExperimentConfig, workdir: Path, *, progress: bool = True) -> dict[str, Any]:
    """Runs what is left of an experiment.

    Leaves in `workdir`: config.json, data/, stages/NAME/ (Orbax checkpoints), metrics.jsonl,
    evaluation_*.json, checkpoint/ (parameters, config and tokenizer: for `xcomp ask --checkpoint`),
    plot.png, report.md, summary.json.

    Returns:
        The content of summary.json.

    Raises:
        ValueError: a file of `workdir` is damaged; says which and what to do.
        ConfigError: `workdir` belongs to another configuration or to a running process, or the
            configuration cannot run here.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with _only_process(workdir):
        _claim(config, workdir)
        summary = workdir / "summary.json"
        if not summary.exists():
            _run(config, workdir, progress)
        return read_json(summary)


def _run(config: ExperimentConfig, workdir: Path, progress: bool) -> None:
    clock = _Clock(workdir / "elapsed.json")
    tokenizer = load_tokenizer(config.data.tokenizer)
    train, held_out = _datasets(config, workdir, tokenizer, progress)
    clock.save()
    mesh = make_mesh(config.mesh)
    # Kernels look at the mesh in force for the devices they are split over.
    with jax.set_mesh(mesh):
        outcome = _train(config, workdir, tokenizer, train, held_out, mesh, clock, progress)
    write_report(
        config,
        outcome,
        read_metrics(workdir / "metrics.jsonl"),
        workdir,
        example=_example(config, workdir),
    )


def _train(
    config: ExperimentConfig,
    workdir: Path,
    tokenizer: Any,
    train: PreparedDataset,
    held_out: PreparedDataset,
    mesh: jax.sharding.Mesh,
    clock: _Clock,
    progress: bool,
) -> Outcome:
    """All stages, with an evaluation before and after the last."""
    params = _initial_params(config, mesh)

    def evaluated(label: str, compression: CompressionConfig, params: Params) -> Evaluation:
        return _once(
            workdir / f"evaluation_{label}.json",
            lambda: evaluate(
                dataclasses.replace(config.model, compression=compression),
                params,
                held_out,
                tokenizer,
                batch_size=config.eval_batch_size,
                label=f"evaluate {label}",
                progress=progress,
            ),
        )

    *earlier, last = config.stages
    for stage in earlier:
        params = run_stage(config, stage, params, train, mesh, workdir, progress=progress)
        clock.save()
    # What the model could do before compression, and what merely switching it on leaves of that.
    uncompressed = evaluated("uncompressed", CompressionConfig(schedule="none"), params)
    before = evaluated("before", last.compression, params)
    params = run_stage(config, last, params, train, mesh, workdir, progress=progress)
    clock.save()
    after = evaluated("after", last.compression, params)
    _export(config, params, tokenizer, workdir)
    return Outcome(
        uncompressed=uncompressed,
        before=before,
        after=after,
        chance=text_only_accuracy(held_out),
        seconds=clock.save(),
    )


def _example(config: ExperimentConfig, workdir: Path) -> str | None:
    """An `xcomp ask` command about the first held-out video, where the run made its own."""
    if config.data.source != "generated":
        return None
    row = load_manifest(workdir / "data" / "eval.json")[0]
    return (
        f'xcomp ask {workdir / "data" / row.video} "{row.question}" '
        f"--checkpoint {workdir / 'checkpoint'}"
    )


def _datasets(
    config: ExperimentConfig, workdir: Path, tokenizer: Any, progress: bool
) -> tuple[PreparedDataset, PreparedDataset]:
    data, vision = config.data, config.model.vision
    if data.source == "prepared":
        folder = Path(data.prepared_dir)
        return open_prepared(folder / "train"), open_prepared(folder / "eval")
    made = generate(
        workdir / "data",
        seed=config.seed,
        num_train_videos=data.num_train_videos,
        num_eval_videos=data.num_eval_videos,
        kinds=data.question_kinds,
        progress=progress,
    )
    train, held_out = (
        prepare(
            manifest,
            workdir / "data" / "prepared",
            sampling=config.sampling,
            image_size=vision.image_size,
            clip_frames=vision.clip_frames,
            tokenizer=tokenizer,
            max_text_tokens=data.max_text_tokens,
            prompt_as_asked=data.prompt_as_asked,
            progress=progress,
        )
        for manifest in (made.train_manifest, made.eval_manifest)
    )
    return train, held_out


def _initial_params(config: ExperimentConfig, mesh: jax.sharding.Mesh) -> Params:
    abstract = abstract_params(config.model)
    shardings = parameter_shardings(abstract, mesh)
    if config.init_from is not None:
        model = CheckpointReader(config.init_from).model
        for part in ("vision", "projector", "llm"):
            if getattr(model, part) != getattr(config.model, part):
                raise ConfigError(
                    f"init_from={config.init_from!r} holds a model with {part}="
                    f"{getattr(model, part)}, the experiment wants {getattr(config.model, part)}"
                )
        # Trained in float32 whatever the checkpoint holds; each process reads its own slices.
        _, params = load_params(config.init_from, dtype="float32", shardings=shardings)
        return params
    init = jax.jit(lambda key: init_params(config.model, key), out_shardings=shardings)
    return init(jax.random.key(config.seed))


def _export(config: ExperimentConfig, params: Params, tokenizer: Any, workdir: Path) -> None:
    tokenizer_folder = workdir / "tokenizer"
    tokenizer.save_pretrained(tokenizer_folder)
    files = sorted(path for path in tokenizer_folder.iterdir() if path.is_file())
    source: dict[str, Any] = {
        "experiment": config.name,
        "config": to_dict(config),
        "sampling": to_dict(config.sampling),
    }
    if config.init_from is not None:
        # What the base brought from its PyTorch life goes along, so that `convert to_torch` can
        # write the tuned model in the same layout.
        source["init_from"] = CheckpointReader(config.init_from).source
        source["hf_config"] = source["init_from"].get("hf_config", {})
        generation = Path(config.init_from) / "generation_config.json"
        files += [generation] if generation.is_file() else []
    save_params(
        workdir / "checkpoint",
        config.stage_model(config.stages[-1]),
        params,
        source=source,
        extra_files=files,
        overwrite=True,
    )


def _once(path: Path, compute: Callable[[], Evaluation]) -> Evaluation:
    """The stored evaluation if there is one, else computes and stores it."""
    if path.exists():
        values = read_json(path)
        kinds = {kind: (right, asked) for kind, (right, asked) in values["by_kind"].items()}
        return Evaluation(right=values["right"], asked=values["asked"], by_kind=kinds)
    evaluation = compute()
    write_json(
        path,
        {
            "accuracy": evaluation.accuracy,
            "right": evaluation.right,
            "asked": evaluation.asked,
            "by_kind": evaluation.by_kind,
        },
    )
    return evaluation


def _claim(config: ExperimentConfig, workdir: Path) -> None:
    """Writes config.json, or checks that the folder was begun with the same one."""
    path, mine = workdir / "config.json", to_dict(config)
    if not path.exists():
        write_json(path, mine)
        return
    theirs = read_json(path, remedy="restore it, or begin in another --workdir")
    mine = json.loads(json.dumps(mine))
    # These decide how a run proceeds, not where it ends.
    for free in ("mesh", "save_every_steps", "keep_checkpoints", "eval_batch_size"):
        mine.pop(free), theirs.pop(free, None)
    if theirs != mine:
        fields = sorted(
            key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)
        )
        raise ConfigError(
            f"{workdir} holds a run of another configuration (differs in {', '.join(fields)}): "
            "use another --workdir, or the configuration that began it"
        )


@contextlib.contextmanager
def _only_process(workdir: Path) -> Iterator[None]:
    """Two processes in one folder would spoil each other's checkpoints."""
    with (workdir / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{workdir} is in use by another running process; wait for it or use another folder"
            ) from None
        yield


class _Clock:
    """Wall seconds spent on a run, over all its restarts (what a kill lost is not counted)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._earlier = read_json(path)["seconds"] if path.exists() else 0.0
        self._began = time.monotonic()

    def save(self) -> float:
        """Stores and returns the seconds so far."""
        seconds = self._earlier + time.monotonic() - self._began
        write_json(self._path, {"seconds": seconds})
        return seconds
