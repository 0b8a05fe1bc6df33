"""One run: model, data, stages."""

from __future__ import annotations

import dataclasses
from typing import Literal

from xcomp_jax.config.model import ModelConfig
from xcomp_jax.config.schema import require
from xcomp_jax.config.training import MeshConfig, StageConfig
from xcomp_jax.config.video import SamplingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """Which samples of a mixture are learnt from, and how they are read (see `data.mixture`).

    path: yaml list of LLaVA-style sets. root: folder that relative paths in it begin at.
    start, end, shuffle_seed:
        after its own strategy every set is shuffled once more with `shuffle_seed` and its part from
        share `start` to share `end` is taken. The published 2.5 % are 0, 0.25 and 42 of a mixture
        that takes a tenth of most sets.
    table: what `xcomp scan` wrote; without one the run scans by itself, into its own folder.
    features:
        a store filled by `xcomp encode --mixture`; batches then hold its features, not frames, and
        no video is decoded. Only for stages that leave the encoder as it is.
    frame_buckets, text_buckets:
        lengths that examples are padded to, ascending: frames, and text tokens after the video. A
        batch has one of each. Default: the largest, halved up to three times; and the largest with
        a quarter of it.
    max_bad: share of samples that may turn out bad before a run stops.
    threads, read_ahead_gib: how many examples are read at a time, and into how much memory.
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
            f"mixture: start={self.start} and end={self.end} are shares of every set, "
            "0 <= start < end <= 1",
        )
        for field in ("frame_buckets", "text_buckets"):
            values = getattr(self, field)
            require(
                all(n >= 1 for n in values) and list(values) == sorted(set(values)),
                f"mixture.{field}={values} must be positive and increase",
            )
        require(0 <= self.max_bad <= 1, f"mixture.max_bad={self.max_bad} must lie in [0, 1]")
        require(self.threads >= 1, f"mixture.threads={self.threads} must be at least 1")
        require(
            self.read_ahead_gib > 0,
            f"mixture.read_ahead_gib={self.read_ahead_gib} must be positive",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is learnt from.

    `source="generated"` makes short videos with known answers; `source="prepared"` trains on the
    questions of `train`; `source="mixture"` on the samples of `mixture`.

    train, held_out:
        questions about videos: a LLaVA-style JSON manifest, whose videos are decoded into the
        workdir once, or a folder that `data.prepared` made of one. The answers to those held out
        are counted before and after the last stage; nothing is evaluated where there are none.

    `prompt_as_asked` trains on the very prompt that is asked with. The original's training prompt
    has one more newline before the question, which a large model does not mind; published numbers
    come from that, so it is the default.
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
        if self.source == "generated":
            require(
                self.num_train_videos >= 1 and self.num_eval_videos >= 1,
                "data.source='generated' needs num_train_videos and num_eval_videos of at least 1",
            )
            require(
                bool(self.question_kinds),
                "data.question_kinds=() asks nothing about the generated videos: name at least one "
                "kind",
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
                f"data.{field}={value!r} is not looked at with data.source={self.source!r}: set "
                f"data.source to {' or '.join(map(repr, sources))}, or leave data.{field} empty",
            )

    @property
    def evaluates(self) -> bool:
        """Whether there are questions held out."""
        return self.source == "generated" or bool(self.held_out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """One run: model, data, the stages of training, the mesh.

    eval_batch_size: questions answered at once by all devices together; rounded up to a multiple of
        the devices that share a batch.
    evaluate_every_steps: also answer the held-out questions during a stage, every so many steps,
        into evaluations.jsonl; None: only before and after the last stage.
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
            f"evaluate_every_steps={self.evaluate_every_steps} needs questions to ask: set "
            "data.held_out, or leave it None",
        )
        require(
            self.init_from is not None or any("vision" in s.trainable for s in self.stages),
            "no stage trains the vision encoder and init_from is not set: it would stay random. "
            "Set init_from to a converted checkpoint, or add 'vision' to a stage's trainable",
        )
        require(len(set(names)) == len(names), f"stage names {names} must differ")

    def stage_model(self, stage: StageConfig) -> ModelConfig:
        """The model with the compression of that stage."""
        return dataclasses.replace(self.model, compression=stage.compression)
