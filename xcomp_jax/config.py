"""The frozen, validated schema of every model and every run.

A configuration file (`configs/*.py`) holds `get_config() -> ml_collections.ConfigDict`; it is
turned into these dataclasses once, at the edge, and each module receives only its own part. Field
names of the language model follow Hugging Face's Qwen2; what can be derived is a property, never a
second knob.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jax.numpy as jnp

DType = Literal["float32", "bfloat16"]
AttentionKernel = Literal["xla", "pallas_tpu", "pallas_gpu", "cudnn"]
CachedAttentionKernel = Literal["xla", "pallas_tpu", "pallas_gpu"]
ClipScoresKernel = Literal["xla", "pallas_tpu", "pallas_gpu"]
Ranking = Literal["attention", "uniform", "uniform0_attention", "uniform1_attention"]


class ConfigError(ValueError):
    """A configuration that cannot be: the message names the field, the value and the way out."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Video encoder (facts: vision tower). Defaults are UMT-L at 448 px with 8-frame clips.

    architecture:
        `umt`, fixed position tables for any clip length; `internvideo2`, the encoder of one of the
        published 7B models, whose learned tables fit clips of exactly `clip_frames` frames (and
        single images).
    depth, select_layer:
        nominal depth of the published tower; `select_layer=-2` means that the last block was never
        built, so `num_blocks` blocks exist in a checkpoint.
    final_norm_eps: of the norm that closes UMT; InternVideo2 has none.
    """

    architecture: Literal["umt", "internvideo2"] = "umt"
    image_size: int = 448
    patch_size: int = 16
    width: int = 1024
    depth: int = 24
    select_layer: int = -2
    num_heads: int = 16
    mlp_ratio: float = 4.0
    clip_frames: int = 8
    block_norm_eps: float = 1e-6
    final_norm_eps: float = 1e-12

    def __post_init__(self) -> None:
        for field in ("image_size", "patch_size", "width", "num_heads", "clip_frames"):
            value = getattr(self, field)
            _require(value >= 1, f"vision.{field}={value} must be at least 1")
        _require(
            self.image_size % self.patch_size == 0,
            f"vision.patch_size={self.patch_size} must divide vision.image_size={self.image_size}",
        )
        _require(
            self.width % self.num_heads == 0,
            f"vision.num_heads={self.num_heads} must divide vision.width={self.width}",
        )
        channels = {"umt": 2, "internvideo2": 16}[self.architecture]
        _require(
            self.width % channels == 0,
            f"vision.width={self.width} must be a multiple of {channels} for "
            f"architecture={self.architecture!r} (sine and cosine channels of its positions)",
        )
        _require(
            -self.depth <= self.select_layer <= -1,
            f"vision.select_layer={self.select_layer} must lie in [-{self.depth}, -1]",
        )
        _require(self.clip_frames >= 1, f"vision.clip_frames={self.clip_frames} must be at least 1")

    @property
    def num_blocks(self) -> int:
        return self.depth + self.select_layer + 1

    @property
    def grid(self) -> int:
        """Patches along one side of a frame."""
        return self.image_size // self.patch_size

    @property
    def patches_per_frame(self) -> int:
        return self.grid * self.grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectorConfig:
    """Token merging to `tokens_per_frame` tokens a frame, then a two-layer MLP to the LLM's
    width."""

    tokens_per_frame: int = 16

    def __post_init__(self) -> None:
        _require(
            self.tokens_per_frame >= 1,
            f"projector.tokens_per_frame={self.tokens_per_frame} must be at least 1",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LLMConfig:
    """Qwen2 decoder; defaults are Qwen2.5-1.5B."""

    vocab_size: int = 151936
    hidden_size: int = 1536
    intermediate_size: int = 8960
    num_hidden_layers: int = 28
    num_attention_heads: int = 12
    num_key_value_heads: int = 2
    rope_theta: float = 1_000_000.0
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        for field in ("hidden_size", "num_attention_heads", "num_key_value_heads", "vocab_size"):
            value = getattr(self, field)
            _require(value >= 1, f"llm.{field}={value} must be at least 1")
        _require(
            self.hidden_size % self.num_attention_heads == 0,
            f"llm.num_attention_heads={self.num_attention_heads} must divide "
            f"llm.hidden_size={self.hidden_size}",
        )
        _require(
            self.num_attention_heads % self.num_key_value_heads == 0,
            f"llm.num_key_value_heads={self.num_key_value_heads} must divide "
            f"llm.num_attention_heads={self.num_attention_heads}",
        )
        _require(
            self.head_dim % 2 == 0,
            f"llm: head size {self.head_dim} = hidden_size / num_attention_heads must be even "
            "(rotary embedding turns pairs)",
        )
        _require(self.num_hidden_layers >= 1, "llm.num_hidden_layers must be at least 1")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompressionConfig:
    """LP-Comp: which layers see how many tokens of a frame (paper 3.2).

    schedule:
        `cosine`, the published one; `stepwise`, after `drop_after_layers[i]` layers every
        `strides[i]` tokens become one; `ranked`, not LP-Comp but the heuristic of its base model
        VideoChat-Flash (facts: upstream attention drop), a baseline for answering: after
        `drop_after_layers[i]` layers the share `ratios[i]` of the video's tokens is left; `none`.
    keep:
        `suffix`, each frame's last tokens (published); `uniform`, spread over the frame (the
        original without ALWAYS_SUFFIX); `average`, mean of each run of tokens (stepwise only).
    ranking:
        which tokens a `ranked` schedule leaves: `attention`, those the prompt's last token looks at
        most; `uniform`, tokens spread evenly over the video; `uniform0_attention` and
        `uniform1_attention`, uniform at the first drop or the first two, then attention.
    ratios: shares of the tokens the video began with, so they never grow.
    max_distinct_lengths:
        departure from the original: at most this many different token counts over depth, so that a
        pod compiles a few layer bodies instead of sixteen. None keeps the schedule as published.
    """

    schedule: Literal["cosine", "stepwise", "ranked", "none"] = "cosine"
    keep: Literal["suffix", "uniform", "average"] = "suffix"
    drop_after_layers: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    ranking: Ranking | None = None
    ratios: tuple[float, ...] = ()
    max_distinct_lengths: int | None = None

    def __post_init__(self) -> None:
        stepwise, ranked = self.schedule == "stepwise", self.schedule == "ranked"
        _require(
            (stepwise or ranked) == bool(self.drop_after_layers),
            f"compression.drop_after_layers={self.drop_after_layers} goes with "
            "schedule='stepwise' or 'ranked' and only with them, got "
            f"schedule={self.schedule!r}",
        )
        for name, wanted in (("strides", stepwise), ("ratios", ranked)):
            entries, drops = getattr(self, name), self.drop_after_layers if wanted else ()
            _require(
                len(entries) == len(drops),
                f"compression.{name}={entries} needs one entry for each of "
                f"drop_after_layers={drops} with schedule={self.schedule!r}",
            )
        _require(
            ranked == (self.ranking is not None),
            f"compression.ranking={self.ranking!r} goes with schedule='ranked' and only with it, "
            f"got schedule={self.schedule!r}; known: {list(get_args(Ranking))}",
        )
        _require(
            all(0 < ratio <= 1 for ratio in self.ratios)
            and list(self.ratios) == sorted(self.ratios, reverse=True),
            f"compression.ratios={self.ratios} must lie in (0, 1] and never grow: each is a share "
            "of the tokens the video began with",
        )
        _require(
            all(stride >= 2 for stride in self.strides),
            f"compression.strides={self.strides}: each must be at least 2",
        )
        _require(
            self.keep != "average" or stepwise,
            "compression.keep='average' needs schedule='stepwise': a mean is taken over whole runs",
        )
        _require(
            self.max_distinct_lengths is None or self.max_distinct_lengths >= 2,
            f"compression.max_distinct_lengths={self.max_distinct_lengths} must be at least 2",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelConfig:
    """Who computes each attention; None takes the best that accepts the inputs (`ops`).

    A named implementation is never replaced by another: it runs or says why it refuses.

    decoder_attention: whole sequences: prefill, training and the windows of scoring.
    cached_attention:
        text over a cache: question rows, in answering and in scoring, and decoded tokens. cuDNN is
        no choice: it gives no log-sum-exp to join cache and text by. None takes `xla` for single
        rows.
    """

    encoder_attention: AttentionKernel | None = None
    decoder_attention: AttentionKernel | None = None
    cached_attention: CachedAttentionKernel | None = None
    clip_scores: ClipScoresKernel | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that decides shapes and arithmetic of the model."""

    vision: VisionConfig = VisionConfig()
    projector: ProjectorConfig = ProjectorConfig()
    llm: LLMConfig = LLMConfig()
    compression: CompressionConfig = CompressionConfig()
    kernels: KernelConfig = KernelConfig()
    dtype: DType = "bfloat16"

    def __post_init__(self) -> None:
        _require(
            self.vision.patches_per_frame > self.projector.tokens_per_frame,
            f"projector.tokens_per_frame={self.projector.tokens_per_frame} must be less than the "
            f"{self.vision.patches_per_frame} patches of a frame: token merging has to merge",
        )
        layers = self.llm.num_hidden_layers
        after = self.compression.drop_after_layers
        _require(
            all(1 <= n < layers for n in after) and list(after) == sorted(set(after)),
            f"compression.drop_after_layers={after} must increase within [1, {layers - 1}] "
            f"for {layers} layers",
        )

    @property
    def compute_dtype(self) -> jnp.dtype:
        return jnp.dtype(self.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Which frames of a video are looked at (facts: frame sampling). `fps` is frames per second."""

    fps: int = 8
    min_frames: int = 128
    max_frames: int = 1024

    def __post_init__(self) -> None:
        _require(self.fps >= 1, f"sampling.fps={self.fps} must be at least 1")
        _require(
            1 <= self.min_frames <= self.max_frames,
            f"sampling: min_frames={self.min_frames} must lie in [1, max_frames={self.max_frames}]",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """QC-Comp: how the frames that a question needs are chosen (paper 3.3).

    select:
        frames to keep; None follows the paper: 512 of a video below an hour, 2,048 of a longer one.
    min_frames: videos with fewer frames are kept whole, as the original does below 1,024.
    repeats:
        how often the video is scored, each time in shifted windows. 2 in the paper's tables and the
        published logs; the original's script says 8.
    scope:
        `segments`, attention inside short segments of `segment_clips` clips of 8 frames, one every
        `segment_stride`; `global`, over the whole window, which the paper compares with.
    query_bias:
        text tokens after the video that do not ask. Meant to skip the time message, whose length
        varies by a few tokens; the published value stays whatever the message.
    layers:
        first and one past the last layer whose scores count; None: 6 to 23 of 28 layers, as
        published, and the same part of another depth.
    window_frames: length of a window, without the margin that segments add.
    granularity:
        `frame`, as published; `clip`, a departure: windows are shifted by whole clips, so selected
        clips keep the visual tokens they already have.
    """

    select: int | None = None
    min_frames: int = 1024
    repeats: int = 2
    scope: Literal["segments", "global"] = "segments"
    segment_clips: int = 8
    segment_stride: int = 4
    query_bias: int = 27
    layers: tuple[int, ...] | None = None
    window_frames: int = 512
    granularity: Literal["frame", "clip"] = "frame"

    def __post_init__(self) -> None:
        for field, least in (
            ("min_frames", 0),
            ("repeats", 1),
            ("segment_clips", 1),
            ("segment_stride", 1),
            ("query_bias", 0),
            ("window_frames", 8),
        ):
            value = getattr(self, field)
            _require(value >= least, f"selection.{field}={value} must be at least {least}")
        _require(
            self.select is None or self.select >= 1,
            f"selection.select={self.select} must be at least 1, or None for the paper's rule",
        )
        _require(
            self.segment_stride <= self.segment_clips,
            f"selection.segment_stride={self.segment_stride} must not exceed "
            f"segment_clips={self.segment_clips}: clips in between would never be scored",
        )
        _require(
            self.layers is None or (len(self.layers) == 2 and 0 <= self.layers[0] < self.layers[1]),
            f"selection.layers={self.layers} must be (first, one past the last), like (6, 24)",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Devices along each axis; -1 (at most once) takes what is left.

    data, fsdp: split a batch. fsdp, context: split the parameters. tensor: splits the wide side of
    every matrix. context: splits the tokens of each video, for videos too long for one device.
    """

    data: int = 1
    fsdp: int = -1
    tensor: int = 1
    context: int = 1

    def __post_init__(self) -> None:
        sizes = dataclasses.astuple(self)
        _require(
            all(n == -1 or n >= 1 for n in sizes) and sizes.count(-1) <= 1,
            f"mesh {dataclasses.asdict(self)}: sizes are positive, and one may be -1",
        )


TRAINABLE_PARTS = ("vision", "projector", "llm")
Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartRates:
    """Peak learning rate of a part of the model; None: the stage's own.

    The published base was made with 2e-6 for its encoder and 1e-5 for everything else.
    """

    vision: float | None = None
    projector: float | None = None
    llm: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Low-rank adapters on the language model's projections instead of learning their weights.

    Each of `projections` gets x A B * alpha / rank added, A [in, rank] and B [rank, out]. B begins
    at zero, so training begins at the base model.
    """

    rank: int = 16
    alpha: float = 32.0
    projections: tuple[Projection, ...] = get_args(Projection)

    def __post_init__(self) -> None:
        _require(self.rank >= 1, f"lora.rank={self.rank} must be at least 1")
        _require(self.alpha > 0, f"lora.alpha={self.alpha} must be positive")
        _require(
            bool(self.projections) and len(set(self.projections)) == len(self.projections),
            f"lora.projections={self.projections} must name at least one of {get_args(Projection)},"
            " each once",
        )

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of training: some parts of the model, one compression, one learning-rate curve.

    batch_size counts examples of one optimiser step over all devices and accumulation steps.
    learning_rates: other peaks for single parts, all on the same curve.
    lora: the `llm` part learns by low-rank adapters only, merged into its weights at the end.
    loss_average:
        `tokens`, mean over all label tokens of a micro batch, what the original computes;
        `examples`, mean of each example's mean, what its published run amounts to (one example per
        device, so that every example weighs the same).
    projector_learns_below_frames:
        videos of that many frames or more give the projector no gradient. The original's training
        does so from 512 frames on, as a side effect of encoding long videos without gradients.
    remat: recompute decoder layers in the backward pass instead of storing their insides.
    """

    name: str
    num_steps: int
    learning_rate: float
    compression: CompressionConfig = CompressionConfig()
    learning_rates: PartRates = PartRates()
    trainable: tuple[str, ...] = ("projector", "llm")
    lora: LoRAConfig | None = None
    batch_size: int = 32
    accumulate_steps: int = 1
    warmup_ratio: float = 0.03
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    loss_average: Literal["tokens", "examples"] = "tokens"
    projector_learns_below_frames: int | None = None
    remat: bool = False

    def __post_init__(self) -> None:
        for field in ("num_steps", "batch_size", "accumulate_steps"):
            value = getattr(self, field)
            _require(value >= 1, f"stage {self.name!r}: {field}={value} must be at least 1")
        _require(
            bool(self.trainable) and set(self.trainable) <= set(TRAINABLE_PARTS),
            f"stage {self.name!r}: trainable={self.trainable} must be taken from {TRAINABLE_PARTS}",
        )
        rates = dataclasses.asdict(self.learning_rates)
        idle = sorted(part for part in rates if rates[part] and part not in self.trainable)
        _require(
            not idle,
            f"stage {self.name!r}: learning_rates names {idle}, which trainable={self.trainable} "
            "does not; add them there, or leave their rate out",
        )
        _require(
            all(rate is None or rate >= 0 for rate in (self.learning_rate, *rates.values())),
            f"stage {self.name!r}: learning_rate={self.learning_rate} and learning_rates={rates} "
            "must not be negative",
        )
        _require(
            self.lora is None or "llm" in self.trainable,
            f"stage {self.name!r}: lora adapts the llm, which trainable={self.trainable} leaves "
            "out; add 'llm', or remove lora",
        )
        _require(
            self.batch_size % self.accumulate_steps == 0,
            f"stage {self.name!r}: accumulate_steps={self.accumulate_steps} must divide "
            f"batch_size={self.batch_size}",
        )
        _require(
            self.compression.ranking in (None, "uniform"),
            f"stage {self.name!r}: compression.ranking={self.compression.ranking!r} looks at the "
            "prompt's last token, which in training is the end of the answer; tune with 'uniform'",
        )
        _require(
            0 <= self.warmup_ratio < 1,
            f"stage {self.name!r}: warmup_ratio={self.warmup_ratio} must lie in [0, 1)",
        )

    @property
    def learned_parts(self) -> tuple[str, ...]:
        """Parts of the parameter tree that have gradients: adapters instead of an adapted llm."""
        adapted = self.lora is not None
        return tuple("lora" if adapted and part == "llm" else part for part in self.trainable)


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
        _require(
            0 <= self.start < self.end <= 1,
            f"mixture: start={self.start} and end={self.end} are shares of every set, "
            "0 <= start < end <= 1",
        )
        for field in ("frame_buckets", "text_buckets"):
            values = getattr(self, field)
            _require(
                all(n >= 1 for n in values) and list(values) == sorted(set(values)),
                f"mixture.{field}={values} must be positive and increase",
            )
        _require(0 <= self.max_bad <= 1, f"mixture.max_bad={self.max_bad} must lie in [0, 1]")
        _require(self.threads >= 1, f"mixture.threads={self.threads} must be at least 1")
        _require(
            self.read_ahead_gib > 0,
            f"mixture.read_ahead_gib={self.read_ahead_gib} must be positive",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is learnt from.

    `source="generated"` makes short videos with known answers; `source="prepared"` reads the
    ArrayRecord sets `prepared_dir`/train and `prepared_dir`/eval (see `data.prepared`);
    `source="mixture"` trains on the samples of `mixture`, and evaluates on `prepared_dir`/eval.

    `prompt_as_asked` trains on the very prompt that is asked with. The original's training prompt
    has one more newline before the question, which a large model does not mind; published numbers
    come from that, so it is the default.
    """

    source: Literal["generated", "prepared", "mixture"] = "prepared"
    prepared_dir: str = ""
    mixture: MixtureConfig = MixtureConfig()
    num_train_videos: int = 0
    num_eval_videos: int = 0
    question_kinds: tuple[str, ...] = ("color", "direction", "flash_color", "flash_moment")
    tokenizer: str | None = None
    max_text_tokens: int = 512
    prompt_as_asked: bool = False

    def __post_init__(self) -> None:
        if self.source == "generated":
            _require(
                self.num_train_videos >= 1 and self.num_eval_videos >= 1,
                "data.source='generated' needs num_train_videos and num_eval_videos of at least 1",
            )
        if self.source == "mixture":
            _require(
                bool(self.mixture.path),
                "data.source='mixture' needs data.mixture.path, the yaml file that lists the sets",
            )


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
    data: DataConfig = DataConfig()
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
        _require(bool(names), "an experiment needs at least one stage")
        for field, least in (
            ("seed", 0),
            ("save_every_steps", 1),
            ("keep_checkpoints", 1),
            ("eval_batch_size", 1),
        ):
            value = getattr(self, field)
            _require(value >= least, f"{field}={value} must be at least {least}")
        _require(
            self.evaluate_every_steps is None or self.evaluate_every_steps >= 1,
            f"evaluate_every_steps={self.evaluate_every_steps} must be at least 1, or None",
        )
        _require(
            self.init_from is not None or any("vision" in s.trainable for s in self.stages),
            "no stage trains the vision encoder and init_from is not set: it would stay random. "
            "Set init_from to a converted checkpoint, or add 'vision' to a stage's trainable",
        )
        _require(len(set(names)) == len(names), f"stage names {names} must differ")

    def stage_model(self, stage: StageConfig) -> ModelConfig:
        """The model with the compression of that stage."""
        return dataclasses.replace(self.model, compression=stage.compression)


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dict (tuples become lists) for JSON and ConfigDict."""
    return dataclasses.asdict(
        config,
        dict_factory=lambda items: {
            key: list(value) if isinstance(value, tuple) else value for key, value in items
        },
    )


def from_dict(schema: type, values: Any, path: str = "") -> Any:
    """Builds the dataclass `schema` from nested mappings; unknown or ill-typed fields are refused.

    Raises:
        ConfigError: naming the field, what was given and what is known.
    """
    where = path or schema.__name__
    _require(hasattr(values, "items"), f"{where}: expected a mapping of fields, got {values!r}")
    hints = get_type_hints(schema)
    known = {field.name: field for field in dataclasses.fields(schema)}
    unknown = sorted(set(dict(values.items())) - set(known))
    _require(not unknown, f"{where}: unknown field(s) {unknown}; known: {sorted(known)}")
    built = {
        name: _convert(hints[name], value, f"{path}.{name}" if path else name)
        for name, value in values.items()
    }
    missing = [
        name
        for name, field in known.items()
        if name not in built
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    _require(not missing, f"{where}: missing field(s) {missing}")
    return schema(**built)


def _convert(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, path)  # type: ignore[arg-type]
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple:
        _require(isinstance(value, (list, tuple)), f"{path}: expected a sequence, got {value!r}")
        return tuple(_convert(args[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is Literal:
        _require(value in args, f"{path}={value!r} must be one of {list(args)}")
        return value
    if type(None) in args:
        if value is None:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _require(
        isinstance(value, hint) and (hint is bool or not isinstance(value, bool)),
        f"{path}={value!r} must be of type {hint.__name__}, got {type(value).__name__}",
    )
    return value
