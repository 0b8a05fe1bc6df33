"""Configuration of one run: model, data, stages."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from xcomp_jax.config.model import ModelConfig
from xcomp_jax.config.schema import require
from xcomp_jax.config.training import MeshConfig, StageConfig
from xcomp_jax.config.video import SamplingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """Subset of a mixture to train on, and how it is read (see `data.mixture`).

    path: yaml list of LLaVA-style sets. root: base folder of relative paths in it.
    start, end, shuffle_seed:
        after its own strategy every set is shuffled once more with `shuffle_seed`, and its part
        from fraction `start` to fraction `end` is used. The published 2.5 % are 0, 0.25 and 42 of a
        mixture that takes a tenth of most sets.
    table: output of `xcomp scan`; without one the run scans the mixture into its own folder.
    features:
        a store filled by `xcomp encode --mixture`; batches then hold its features instead of
        frames, and no video is decoded. Only for stages that do not train the encoder.
    frame_buckets, text_buckets:
        lengths that examples are padded to, ascending: frames, and text tokens after the video. A
        batch has one of each. Default: the largest, halved up to three times; and the largest with
        a quarter of it.
    max_bad: fraction of unreadable samples at which a run stops.
    threads, read_ahead_gib: examples that are read at a time, and the memory they may take.
    """

    path: str = ""
    root: str = ""
    start: float = 0.0
    end: float = 1.0
    shuffle_seed: int | None = None
    table: str = ""
    features: str = ""
    frame_buckets: tuple[int, ...] = ()
    text_buckets: tuple[int, ...] = ()
    max_bad: float = 0.01
    threads: int = 8
    read_ahead_gib: float = 4.0

    def __post_init__(self) -> None:
        require(
            0 <= self.start < self.end <= 1,
            f"mixture: start={self.start} and end={self.end} are fractions of every set; "
            "0 <= start < end <= 1 is required",
        )
        for field in ("frame_buckets", "text_buckets"):
            values = getattr(self, field)
            require(
                all(n >= 1 for n in values) and list(values) == sorted(set(values)),
                f"mixture.{field}={values} must be positive and strictly ascending",
            )
        require(0 <= self.max_bad <= 1, f"mixture.max_bad={self.max_bad} must lie in [0, 1]")
        require(self.threads >= 1, f"mixture.threads={self.threads} must be at least 1")
        require(
            0 < self.read_ahead_gib < math.inf,
            f"mixture.read_ahead_gib={self.read_ahead_gib} must be positive and finite",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Training data.

    source:
        `generated`, short synthetic videos with known answers; `prepared`, the questions of
        `train`; `mixture`, the samples of `mixture`.
    train, held_out:
        questions about videos: a LLaVA-style JSON manifest, whose videos are decoded into the
        workdir once, or a folder that `data.prepared` wrote from one. Held-out questions are
        evaluated before and after the last stage; without any, there is no evaluation.
    prompt_as_asked:
        train on exactly the prompt of inference. The original's training prompt has one more
        newline before the question; published numbers come from that prompt, so it is the default.
    """

    source: Literal["generated", "prepared", "mixture"]
    train: str = ""
    held_out: str = ""
    mixture: MixtureConfig = MixtureConfig()
    num_train_videos: int = 0
    num_eval_videos: int = 0
    question_kinds: tuple[str, ...] = ("color", "direction", "flash_color", "flash_moment")
    tokenizer: str | None = None
    max_text_tokens: int = 512
    prompt_as_asked: bool = False

    def __post_init__(self) -> None:
        require(
            self.max_text_tokens >= 1,
            f"data.max_text_tokens={self.max_text_tokens} must be at least 1",
        )
        if self.source == "generated":
            require(
                self.num_train_videos >= 1 and self.num_eval_videos >= 1,
                "data.source='generated' needs num_train_videos and num_eval_videos of at least 1",
            )
            require(
                bool(self.question_kinds),
                "data.question_kinds=() is empty: name at least one kind of question",
            )
        if self.source == "prepared":
            require(
                bool(self.train),
                "data.source='prepared' needs data.train, a manifest or a prepared folder",
            )
        if self.source == "mixture":
            require(
                bool(self.mixture.path),
                "data.source='mixture' needs data.mixture.path, the yaml file that lists the sets",
            )
        for field, value, sources in (
            ("train", self.train, ("prepared",)),
            ("held_out", self.held_out, ("prepared", "mixture")),
            ("mixture.path", self.mixture.path, ("mixture",)),
        ):
            require(
                not value or self.source in sources,
                f"data.{field}={value!r} is not used with data.source={self.source!r}: set "
                f"data.source to {' or '.join(map(repr, sources))}, or leave data.{field} empty",
            )

    @property
    def evaluates(self) -> bool:
        """True if there are held-out questions."""
        return self.source == "generated" or bool(self.held_out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """A benchmark that runs on the parameters in training, as `xcomp evaluate` runs it.

    name: benchmark, such as `mlvu` or `videomme_subtitles`.
    data: data folder of the benchmark.
    protocol: `published`, `vcf` or the path of a Python file.
    limit: ask only the first questions; None asks all.
    every_steps: interval in steps during every stage; None: only after the last stage.
    """

    name: str
    data: str
    protocol: str = "published"
    limit: int | None = None
    every_steps: int | None = None

    def __post_init__(self) -> None:
        require(bool(self.name), "benchmarks.name is empty; set it to a benchmark such as mlvu")
        require(bool(self.data), f"benchmark {self.name}: data is empty; set it to its data folder")
        for field in ("limit", "every_steps"):
            value = getattr(self, field)
            require(
                value is None or value >= 1,
                f"benchmark {self.name}: {field}={value} must be at least 1, or None",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """One run: model, data, training stages, mesh.

    eval_batch_size: questions per batch over all devices, rounded up to a multiple of the devices
        that split a batch.
    evaluate_every_steps: interval in steps of an evaluation during a stage, written to
        evaluations.jsonl; None: only before and after the last stage.
    benchmarks: benchmarks that run after the last stage or periodically, written to
        benchmarks.jsonl.
    """

    name: str
    model: ModelConfig
    stages: tuple[StageConfig, ...]
    data: DataConfig
    sampling: SamplingConfig = SamplingConfig()
    mesh: MeshConfig = MeshConfig()
    init_from: str | None = None
    seed: int = 0
    save_every_steps: int = 200
    keep_checkpoints: int = 2
    eval_batch_size: int = 32
    evaluate_every_steps: int | None = None
    benchmarks: tuple[BenchmarkConfig, ...] = ()

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        require(bool(names), "an experiment needs at least one stage")
        # A random key keeps 32 bits: larger seeds would repeat smaller ones.
        require(0 <= self.seed < 2**32, f"seed={self.seed} must lie in [0, {2**32 - 1}]")
        for field in ("save_every_steps", "keep_checkpoints", "eval_batch_size"):
            value = getattr(self, field)
            require(value >= 1, f"{field}={value} must be at least 1")
        require(
            self.evaluate_every_steps is None or self.evaluate_every_steps >= 1,
            f"evaluate_every_steps={self.evaluate_every_steps} must be at least 1, or None",
        )
        require(
            self.evaluate_every_steps is None or self.data.evaluates,
            f"evaluate_every_steps={self.evaluate_every_steps} needs questions: set "
            "data.held_out, or leave it None",
        )
        require(
            self.init_from is not None or any("vision" in s.trainable for s in self.stages),
            "no stage trains the vision encoder and init_from is not set: its weights would be "
            "random. Set init_from to a converted checkpoint, or add 'vision' to a trainable",
        )
        require(len(set(names)) == len(names), f"stage names {names} must differ")
        benchmarks = [benchmark.name for benchmark in self.benchmarks]
        require(
            len(set(benchmarks)) == len(benchmarks),
            f"names of benchmarks {benchmarks} must differ",
        )

    def stage_model(self, stage: StageConfig) -> ModelConfig:
        """Returns the model with the compression of `stage`."""
        return dataclasses.replace(self.model, compression=stage.compression)
