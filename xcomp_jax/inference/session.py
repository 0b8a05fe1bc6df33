"""Asking a model about videos: decoding, encoding, prefill and answer in one place.

Memory does not grow with the length of the video: frames are decoded, encoded and forgotten a few
clips at a time, and only visual tokens stay (16 a frame). Every length is rounded up to a bucket,
so that the next question compiles nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from xcomp_jax.compression.schedule import check_visual_length, plan_stages
from xcomp_jax.config import ConfigError, ModelConfig, SamplingConfig
from xcomp_jax.inference.buckets import bucket
from xcomp_jax.inference.compilation import COMPILATIONS
from xcomp_jax.inference.generate import GenerationConfig, generate
from xcomp_jax.models.qwen2 import StageCache
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import Params, XComp, run
from xcomp_jax.text.prompts import answer_text, inference_ids, split_at_video
from xcomp_jax.video.decode import read_frames
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.preprocess import normalize
from xcomp_jax.video.probe import VideoInfo, probe
from xcomp_jax.video.sampling import READER_CLIP, FramePlan, plan_frames

# Clips encoded by one call: enough to fill a device, few enough that UMT-L at 448 px stays below 2
# GB.
CLIPS_PER_CALL = 4
PREFIX_UNIT, SUFFIX_UNIT = 16, 64


@dataclasses.dataclass(frozen=True)
class VisualTokens:
    """A looked-at video: `tokens` [F * tokens_per_frame, D] and how its frames were chosen.

    Tokens wait in host memory: putting videos of any length together there compiles nothing.
    """

    tokens: np.ndarray
    plan: FramePlan


@dataclasses.dataclass(frozen=True)
class Answer:
    """`seconds` says where the time went; `compilations` how many programs had to be compiled."""

    text: str
    token_ids: tuple[int, ...]
    num_frames: int
    duration: float
    seconds: dict[str, float]
    compilations: int


class Stopwatch:
    """Adds up wall seconds under a few names."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def measure(self, name: str, start: float) -> None:
        """Adds the time since `start` (from `time.perf_counter()`) to `name`."""
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@functools.partial(jax.jit, static_argnames="model")
def encode_clips(model: XComp, params: Params, clips: Array) -> Array:
    """uint8 clips [C, T, S, S, 3] -> visual tokens [C, T * tokens_per_frame, D]."""
    return run(model, params, "encode", normalize(clips))


def encode_some(model: XComp, params: Params, clips: np.ndarray) -> np.ndarray:
    """Visual tokens [C, T * tokens_per_frame, D] of uint8 clips [C, T, S, S, 3], on the host.

    Works through them a few at a time; the last call is filled up with black clips, so that any
    number of clips runs the same compiled program in the same memory.
    """
    encoded = []
    for start in range(0, len(clips), CLIPS_PER_CALL):
        some = clips[start : start + CLIPS_PER_CALL]
        room = np.zeros((CLIPS_PER_CALL, *clips.shape[1:]), np.uint8)
        room[: len(some)] = some
        encoded.append(np.asarray(encode_clips(model, params, room))[: len(some)])
    return np.concatenate(encoded)


@functools.partial(jax.jit, static_argnames="model")
def prefill(
    model: XComp,
    params: Params,
    prefix_ids: Array,
    visual: Array,
    suffix_ids: Array,
    lengths: Lengths,
) -> tuple[Array, tuple[StageCache, ...]]:
    """Logits [B, vocab] after the last text token, and the cache of unequal length per stage."""
    out = run(model, params, "prefill", prefix_ids, visual, suffix_ids, lengths, keep_cache=True)
    last = jnp.take_along_axis(out.suffix, (lengths.suffix - 1)[:, None, None], axis=1)[:, 0]
    return run(model, params, "logits", last), out.cache


def padded_ids(sequences: Sequence[Sequence[int]], unit: int) -> np.ndarray:
    """[B, S] int32, zeros behind each sequence, S rounded up to a bucket."""
    length = bucket(max(len(ids) for ids in sequences), unit)
    return np.stack(
        [np.pad(np.asarray(ids, np.int32), (0, length - len(ids))) for ids in sequences]
    )


class Session:
    """A model in memory, ready to answer.

    Args:
        config: shapes and arithmetic of the model, with the compression to use.
        params: its parameters.
        tokenizer: a ChatML tokenizer whose ids the model was trained on.
        generation: how tokens are chosen; end tokens default to the tokenizer's `<|im_end|>`.
        sampling: which frames are looked at.

    Raises:
        ConfigError: when the tokenizer has more tokens than the model has embeddings.
    """

    def __init__(
        self,
        config: ModelConfig,
        params: Params,
        tokenizer: Any,
        *,
        generation: GenerationConfig | None = None,
        sampling: SamplingConfig | None = None,
    ) -> None:
        if len(tokenizer) > config.llm.vocab_size:
            raise ConfigError(
                f"the tokenizer has {len(tokenizer)} tokens, the model embeddings for "
                f"{config.llm.vocab_size}: this is not the tokenizer the model was trained with"
            )
        generation = generation or GenerationConfig()
        if not generation.eos_token_ids:
            end = tokenizer.convert_tokens_to_ids("<|im_end|>")
            generation = dataclasses.replace(generation, eos_token_ids=(end,))
        self.config = config
        self.params = params
        self.tokenizer = tokenizer
        self.generation = generation
        self.sampling = sampling or SamplingConfig()
        self._model = XComp(config)
        self._stages = plan_stages(
            config.compression,
            num_layers=config.llm.num_hidden_layers,
            tokens_per_frame=config.projector.tokens_per_frame,
        )

    def ask(
        self,
        video: str | Path | VideoInfo,
        question: str,
        *,
        num_frames: int | None = None,
        start: float | None = None,
        end: float | None = None,
        progress: Any = None,
    ) -> Answer:
        """Looks at a video file or folder of images and answers one question about it.

        Args:
            video: a path, or what `video.probe` said of it.
            num_frames: exactly so many frames (a short video repeats some); default: by `sampling`.
            start, end: seconds; only that part is looked at.
            progress: called with (frames done, frames in all).

        Raises:
            VideoError: the video cannot be read or cut as asked.
            ValueError: the question is empty or holds the video mark.
        """
        self._check(question)  # before the video, which takes longer
        watch, compiled = Stopwatch(), COMPILATIONS.count
        visual = self.look(
            video, num_frames=num_frames, start=start, end=end, progress=progress, watch=watch
        )
        return self.answer([visual], [question], watch=watch, compiled_before=compiled)[0]

    def _check(self, question: str) -> None:
        if not question.strip():
            raise ValueError("a question is empty: say what you want to know about the video")
        inference_ids(self.tokenizer, question, "")

    def look(
        self,
        video: str | Path | VideoInfo,
        *,
        num_frames: int | None = None,
        start: float | None = None,
        end: float | None = None,
        progress: Any = None,
        watch: Stopwatch | None = None,
    ) -> VisualTokens:
        """Decodes and encodes a video once; any number of questions can follow.

        Arguments and errors as in `ask`.
        """
        watch = watch or Stopwatch()
        clip = self.config.vision.clip_frames
        if num_frames is not None and (num_frames < 1 or num_frames % clip):
            raise ConfigError(
                f"{num_frames=} must be a positive multiple of the encoder's clips of {clip} frames"
            )
        begin = time.perf_counter()
        info = video if isinstance(video, VideoInfo) else probe(video)
        plan = plan_frames(
            info,
            fps=self.sampling.fps,
            min_frames=num_frames or self.sampling.min_frames,
            max_frames=num_frames or self.sampling.max_frames,
            # The original counts in eights; a number asked for is met in the model's own clips.
            clip_frames=READER_CLIP if num_frames is None else clip,
            start=start,
            end=end,
        )
        if len(plan.indices) % clip:
            raise VideoError(
                info.path,
                f"{len(plan.indices)} frames were chosen, which are not whole clips of {clip}",
                "Ask for a number of frames that is a multiple of that.",
            )
        watch.measure("probe", begin)
        frames = read_frames(info.path, plan.indices, size=self.config.vision.image_size)
        return VisualTokens(
            self.encode(frames, total=len(plan.indices), progress=progress, watch=watch), plan
        )

    def encode(
        self,
        frames: Iterable[np.ndarray],
        *,
        total: int,
        progress: Any = None,
        watch: Stopwatch | None = None,
    ) -> np.ndarray:
        """Visual tokens of whole clips.

        Args:
            frames: `total` frames [S, S, 3] uint8 in order, already of the model's size.

        Returns:
            [total * tokens_per_frame, D] in the compute dtype, in host memory.
        """
        watch = watch or Stopwatch()
        clip, done = self.config.vision.clip_frames, 0
        encoded = []
        for chunk in _timed_chunks(iter(frames), CLIPS_PER_CALL * clip, watch):
            begin = time.perf_counter()
            done += len(chunk)
            clips = np.stack(chunk).reshape(-1, clip, *chunk[0].shape)
            tokens = encode_some(self._model, self.params, clips)
            encoded.append(tokens.reshape(-1, tokens.shape[-1]))
            watch.measure("encode", begin)
            if progress is not None:
                progress(done, total)
        return np.concatenate(encoded)

    def answer(
        self,
        videos: Sequence[VisualTokens],
        questions: Sequence[str],
        *,
        seed: int = 0,
        watch: Stopwatch | None = None,
        compiled_before: int | None = None,
    ) -> list[Answer]:
        """Answers one question about each of several videos, as one batch.

        Videos and questions may differ in length: padding changes no answer.

        Raises:
            ValueError: an empty question, or another number of questions than videos.
        """
        watch = watch or Stopwatch()
        compiled_before = COMPILATIONS.count if compiled_before is None else compiled_before
        if len(videos) != len(questions):
            raise ValueError(f"{len(videos)} videos need as many questions, got {len(questions)}")
        for question in questions:
            self._check(question)
        begin = time.perf_counter()
        texts = [
            split_at_video(inference_ids(self.tokenizer, question, video.plan.message))
            for video, question in zip(videos, questions, strict=True)
        ]
        unit = self.config.vision.clip_frames * self.config.projector.tokens_per_frame
        length = bucket(max(len(video.tokens) for video in videos), unit)
        for tokens in (length, *(len(video.tokens) for video in videos)):
            check_visual_length(self._stages, tokens)
        visual = np.stack([np.pad(v.tokens, ((0, length - len(v.tokens)), (0, 0))) for v in videos])
        counts: list[Any] = [
            np.array([len(before) for before, _ in texts], np.int32),
            np.array([len(video.tokens) for video in videos], np.int32),
            np.array([len(after) for _, after in texts], np.int32),
        ]
        lengths = Lengths(*counts)
        logits, cache = jax.block_until_ready(
            prefill(
                self._model,
                self.params,
                padded_ids([before for before, _ in texts], PREFIX_UNIT),
                visual,
                padded_ids([after for _, after in texts], SUFFIX_UNIT),
                lengths,
            )
        )
        watch.measure("prefill", begin)
        begin = time.perf_counter()
        out = jax.device_get(
            generate(self._model, self.params, logits, cache, self.generation, seed=seed)
        )
        watch.measure("generate", begin)
        return [
            Answer(
                text=answer_text(self.tokenizer.decode(ids[:count], skip_special_tokens=True)),
                token_ids=tuple(int(token) for token in ids[:count]),
                num_frames=len(video.plan.indices),
                duration=video.plan.duration,
                seconds=dict(watch.seconds),
                compilations=COMPILATIONS.count - compiled_before,
            )
            for video, ids, count in zip(videos, out.ids, out.count, strict=True)
        ]


def _timed_chunks(
    frames: Iterator[np.ndarray], size: int, watch: Stopwatch
) -> Iterator[list[np.ndarray]]:
    """Lists of up to `size` frames; the time spent waiting for them counts as decoding."""
    while True:
        begin = time.perf_counter()
        chunk = list(itertools.islice(frames, size))
        watch.measure("decode", begin)
        if not chunk:
            return
        yield chunk
