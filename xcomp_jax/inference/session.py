"""Watching a video once and asking about it many times.

Video states never depend on the question, so they are computed once and kept on three levels: the
visual tokens of every clip (`VideoClips`), the states that scoring needs, and the compressed keys
and values of the frames an answer is drawn from. A further question costs its text rows. Memory on
the device does not grow with the length of the video, and every length is rounded up to a bucket,
so that the next question compiles nothing.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcomp_jax.config import ConfigError, ModelConfig, SamplingConfig, SelectionConfig
from xcomp_jax.engine.clips import ClipCache, FileFrames, FrameSource, MemoryClipCache, VideoClips
from xcomp_jax.engine.compilation import COMPILATIONS
from xcomp_jax.engine.generate import GenerationConfig
from xcomp_jax.engine.programs import CLIPS_PER_CALL, encode_some
from xcomp_jax.engine.reader import Reader, Reading
from xcomp_jax.inference.answer import Answer, Stopwatch
from xcomp_jax.inference.chat import Conversation
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.selector import Selector
from xcomp_jax.models.decoder_state import LayerGroupCache
from xcomp_jax.models.xcomp import Params
from xcomp_jax.selection.plan import FrameScores
from xcomp_jax.text.prompts import ChatIds, answer_text, inference_ids, split_at_video
from xcomp_jax.token_store import StoreKey, TokenStore, hash_encoder
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.probe import VideoInfo, probe
from xcomp_jax.video.sampling import READER_CLIP, FramePlan, plan_frames

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, how many are done, how many there are)."""


class Session:
    """A model in memory, ready to watch and to answer.

    Args:
        config: shapes and arithmetic of the model, with the compression to use.
        params: its parameters.
        tokenizer: a ChatML tokenizer whose ids the model was trained on.
        generation: how tokens are chosen; end tokens default to the tokenizer's `<|im_end|>`.
        sampling: which frames are looked at.
        selection: how a question chooses among them; None answers from all.
        store: where visual tokens of video files are kept for other processes and other days.

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
        selection: SelectionConfig | None = None,
        store: TokenStore | None = None,
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
        self.store = store
        self.reader = Reader(config, params)
        self.selector = (
            None
            if selection is None
            else Selector(self.reader.model, params, self.reader.layer_groups, selection)
        )
        self._encoder_hash: str | None = None

    # --- watching -------------------------------------------------------------------------------

    def encode_video(
        self,
        video: str | Path | VideoInfo,
        *,
        num_frames: int | None = None,
        start: float | None = None,
        end: float | None = None,
        progress: Progress | None = None,
        stopwatch: Stopwatch | None = None,
        verify: bool = False,
    ) -> EncodedVideo:
        """Decodes and encodes a video file or folder of images; any number of questions can follow.

        Args:
            video: a path, or what `video.probe` said of it.
            num_frames: exactly so many frames (a short video repeats some); default: by `sampling`.
            start, end: seconds; only that part is looked at.
            stopwatch: where time and work are added up; give it to `ask` too for one account.
            verify: check every clip that the store has; damaged ones are encoded again.

        Raises:
            VideoError: the video cannot be read or cut as asked.
            ConfigError: a number of frames the model or the selection cannot take.
        """
        stopwatch = stopwatch or Stopwatch()
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
        stopwatch.measure("probe", begin)
        source = FileFrames(info.path, plan.indices, self.config.vision.image_size)
        return self.encode_frames(
            source,
            plan,
            name=info.path.name,
            clip_cache=self._clip_cache(info.path, plan, verify),
            path=info.path,
            progress=progress,
            stopwatch=stopwatch,
        )

    def encode_frames(
        self,
        source: FrameSource,
        plan: FramePlan,
        *,
        name: str,
        clip_cache: ClipCache | None = None,
        path: Path | None = None,
        progress: Progress | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> EncodedVideo:
        """Encodes every clip that questions about these frames may need.

        Args:
            source: gives `plan`'s frames.
            shelf: where their visual tokens are kept; default: in memory.
            path: of the file they come from, if there is one.
        """
        stopwatch = stopwatch or Stopwatch()
        total, clip = len(plan.indices), self.config.vision.clip_frames
        selecting = None if self.selector is None else self.selector.windows_of(plan)
        windows, select = selecting or (None, None)
        clips = self.clips_of(
            source, MemoryClipCache() if clip_cache is None else clip_cache, total
        )
        starts = list(range(0, total, clip))
        for window in range(0 if windows is None else len(windows.starts)):
            assert windows is not None
            starts += windows.clip_starts(window, clip)
        clips.prepare(
            starts,
            stopwatch,
            progress=None if progress is None else lambda *n: progress("clips", *n),
        )
        selection = None if self.selector is None else self.selector.config
        return EncodedVideo(name, path, plan, clips, selection, windows, select)

    def clips_of(self, source: FrameSource, clip_cache: ClipCache, num_frames: int) -> VideoClips:
        """Visual tokens of any clip of `num_frames` frames, encoded by this model when needed."""
        return VideoClips(
            lambda pixels: encode_some(self.reader.model, self.params, pixels),
            source,
            clip_cache,
            num_frames=num_frames,
            clip_frames=self.config.vision.clip_frames,
            clips_per_call=CLIPS_PER_CALL,
        )

    def _clip_cache(self, path: Path, plan: FramePlan, verify: bool) -> ClipCache | None:
        if self.store is None:
            return None
        vision, projector = self.config.vision, self.config.projector
        if self._encoder_hash is None:
            self._encoder_hash = hash_encoder(
                {part: self.params[part] for part in ("vision", "projector")},
                {
                    "vision": dataclasses.asdict(vision),
                    "projector": dataclasses.asdict(projector),
                },
            )
        kept = self.store.video(
            StoreKey.make(
                video_hash=self.store.hash_video(path),
                frame_indices=plan.indices,
                image_size=vision.image_size,
                preprocessing="bicubic, ImageNet mean and deviation",
                encoder_hash=self._encoder_hash,
                clip_frames=vision.clip_frames,
                tokens_per_clip=vision.clip_frames * projector.tokens_per_frame,
                width=self.config.llm.hidden_size,
                dtype=self.config.dtype,
            )
        )
        if verify:
            kept.verify()
        return kept

    # --- asking ---------------------------------------------------------------------------------

    def ask(self, memory: EncodedVideo, question: str, **options: Any) -> Answer:
        """Answers one question about a watched video; options and errors as in `ask_all`."""
        return self.ask_all(memory, [question], **options)[0]

    def ask_all(
        self,
        memory: EncodedVideo,
        questions: Sequence[str],
        *,
        seed: int = 0,
        progress: Progress | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> list[Answer]:
        """Answers several questions about a watched video; each window is scored for all at once.

        What they share is told with the first answer.

        Raises:
            ValueError: a question is empty or holds the video mark.
        """
        texts = [self.text_around(memory, question) for question in questions]
        stopwatch, compiled = stopwatch or Stopwatch(), COMPILATIONS.count
        scores = self.score(memory, texts, stopwatch, progress)
        answers = []
        for question, (prefix, suffix), scored in zip(questions, texts, scores, strict=True):
            selected_frames = self.choose(memory, scored)
            reading = self._read(memory, selected_frames, prefix, suffix, stopwatch)
            made = self.reader.generate(
                reading, [len(suffix)], self.generation, stopwatch, seed=seed
            )
            ids = np.asarray(made.ids[0])[: int(made.count[0])]
            answers.append(
                self.answer_of(
                    memory,
                    question,
                    ids,
                    stopwatch,
                    selected_frames,
                    scored,
                    COMPILATIONS.count - compiled,
                )
            )
            stopwatch, compiled = Stopwatch(), COMPILATIONS.count
        return answers

    def ask_batch(
        self, memories: Sequence[EncodedVideo], questions: Sequence[str], *, seed: int = 0
    ) -> list[Answer]:
        """Answers one question about each of several videos, from all their frames, as one batch.

        Videos and questions may differ in length: padding changes no answer.

        Raises:
            ValueError: an empty question, or another number of questions than videos.
        """
        if len(memories) != len(questions):
            raise ValueError(f"{len(memories)} videos need as many questions, got {len(questions)}")
        stopwatch, compiled = Stopwatch(), COMPILATIONS.count
        texts = [
            self.text_around(memory, question)
            for memory, question in zip(memories, questions, strict=True)
        ]
        prefixes, suffixes = [text[0] for text in texts], [text[1] for text in texts]
        tokens = [self._tokens(memory, None, stopwatch) for memory in memories]
        reading = self._read_batch(tokens, prefixes, suffixes, stopwatch)
        written = [len(suffix) for suffix in suffixes]
        made = self.reader.generate(reading, written, self.generation, stopwatch, seed=seed)
        compiled = COMPILATIONS.count - compiled
        return [
            self.answer_of(memory, question, ids[:count], stopwatch, None, None, compiled)
            for memory, question, ids, count in zip(
                memories, questions, np.asarray(made.ids), np.asarray(made.count), strict=True
            )
        ]

    def chat(self, memory: EncodedVideo) -> Conversation:
        """A conversation about a watched video, in which every turn reads only what it adds.

        Raises:
            ConfigError: for a model whose video states depend on the question.
        """
        return Conversation(self, memory)

    # --- the steps ------------------------------------------------------------------------------

    def text_around(
        self, memory: EncodedVideo, question: str, history: Sequence[tuple[str, str]] = ()
    ) -> tuple[list[int], list[int]]:
        """Ids before and after the video; `history` holds earlier (question, answer) pairs.

        Raises:
            ValueError: the question is empty or holds the video mark.
        """
        self.check_question(question)
        message = memory.plan.message
        return split_at_video(inference_ids(self.tokenizer, question, message, history))

    def check_question(self, question: str) -> None:
        """Raises ValueError for a question that is empty or holds the video mark."""
        if not question.strip():
            raise ValueError("a question is empty: say what you want to know about the video")
        inference_ids(self.tokenizer, question, "")

    def score(
        self,
        memory: EncodedVideo,
        texts: Sequence[tuple[list[int], list[int]]],
        stopwatch: Stopwatch,
        progress: Progress | None = None,
    ) -> list[FrameScores | None]:
        """Scores of all frames for each question's `text_around`; None where all are used."""
        if memory.windows is None or self.selector is None:
            return [None] * len(texts)
        chat = ChatIds.of(self.tokenizer)
        scores = self.selector.scores(
            memory,
            texts[0][0],
            [suffix for _, suffix in texts],
            (chat.start, chat.assistant),
            stopwatch,
            progress,
        )
        return list(scores)

    def choose(self, memory: EncodedVideo, scores: FrameScores | None) -> tuple[int, ...] | None:
        """The frames a question is answered from; None for all."""
        if scores is None or self.selector is None:
            return None
        return self.selector.choose(memory, scores)

    def cache_of(
        self,
        memory: EncodedVideo,
        selected_frames: tuple[int, ...] | None,
        prefix: list[int],
        stopwatch: Stopwatch,
    ) -> tuple[LayerGroupCache, ...]:
        """Compressed keys and values of the chosen frames; those of all frames are kept."""
        if selected_frames is None and memory.prefix is not None:
            return memory.prefix
        tokens = self._tokens(memory, selected_frames, stopwatch)
        cache = self.reader.prefill_video([tokens], [prefix], stopwatch)
        if selected_frames is None:
            memory.prefix = cache
        return cache

    def _read(
        self,
        memory: EncodedVideo,
        selected_frames: tuple[int, ...] | None,
        prefix: list[int],
        suffix: list[int],
        stopwatch: Stopwatch,
    ) -> Reading:
        if not self.reader.caches_video:
            tokens = self._tokens(memory, selected_frames, stopwatch)
            return self.reader.prefill([tokens], [prefix], [suffix], stopwatch)
        cache = self.cache_of(memory, selected_frames, prefix, stopwatch)
        return self.reader.extend(cache, [suffix], stopwatch, more=self.generation.max_new_tokens)

    def _read_batch(
        self,
        tokens: Sequence[np.ndarray],
        prefixes: Sequence[list[int]],
        suffixes: Sequence[list[int]],
        stopwatch: Stopwatch,
    ) -> Reading:
        if not self.reader.caches_video:
            return self.reader.prefill(tokens, prefixes, suffixes, stopwatch)
        cache = self.reader.prefill_video(tokens, prefixes, stopwatch)
        return self.reader.extend(cache, suffixes, stopwatch, more=self.generation.max_new_tokens)

    def _tokens(
        self, memory: EncodedVideo, selected_frames: tuple[int, ...] | None, stopwatch: Stopwatch
    ) -> np.ndarray:
        """[V, D]: selected frames are cut into clips anew, as the original does."""
        frames = tuple(range(memory.num_frames)) if selected_frames is None else selected_frames
        size = self.config.vision.clip_frames
        clips = [frames[i : i + size] for i in range(0, len(frames), size)]
        tokens = memory.clips.tokens(clips, stopwatch)
        return tokens.reshape(-1, tokens.shape[-1])

    def answer_of(
        self,
        memory: EncodedVideo,
        question: str,
        ids: np.ndarray,
        stopwatch: Stopwatch,
        selected_frames: tuple[int, ...] | None,
        scores: FrameScores | None,
        compilations: int,
    ) -> Answer:
        """The answer whose tokens are `ids`, with its account."""
        return Answer(
            question=question,
            text=answer_text(self.tokenizer.decode(ids, skip_special_tokens=True)),
            token_ids=tuple(int(token) for token in ids),
            num_frames=memory.num_frames,
            duration=memory.plan.duration,
            selected_frames=selected_frames,
            scores=None if scores is None else scores.total,
            seconds=dict(stopwatch.seconds),
            work=dict(stopwatch.work),
            compilations=compilations,
        )
