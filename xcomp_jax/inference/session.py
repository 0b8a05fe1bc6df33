"""Encodes a video once and answers any number of questions about it.

A video's states do not depend on the question, so they are computed once and kept on three levels:
visual tokens of every clip (`engine.clips`), window caches for scoring, and the KV cache of all
frames. A further question computes only its text rows. Device memory does not grow with the length
of the video, and lengths are rounded up to buckets, so that further questions reuse compiled
programs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from xcomp_jax.config import ModelConfig, SamplingConfig, SelectionConfig
from xcomp_jax.engine.clips import ClipCache, FileFrames, FrameSource, MemoryClipCache, VideoClips
from xcomp_jax.engine.engine import Engine
from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.inference.answer import Answer
from xcomp_jax.inference.answer_batches import answer_batches
from xcomp_jax.inference.answerer import Answerer
from xcomp_jax.inference.chat import Conversation
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.request import question_list
from xcomp_jax.inference.save_model import save_pretrained
from xcomp_jax.inference.selecting import Progress, plan_selection
from xcomp_jax.inference.video_input import StoredClips, sample_frames
from xcomp_jax.models.xcomp import Params
from xcomp_jax.text.prompts import inference_ids, split_at_video
from xcomp_jax.token_store import TokenStore
from xcomp_jax.video.probe import VideoInfo
from xcomp_jax.video.sampling import FramePlan


class Session(Answerer):
    """Encodes videos and answers questions with a loaded model.

    Args:
        config: configuration of the model, including its compression.
        params: parameters of the model.
        tokenizer: ChatML tokenizer that the model was trained with.
        generation: settings of token generation; end tokens default to the tokenizer's
            `<|im_end|>`.
        sampling: frame sampling.
        selection: frame selection; None uses all frames.
        store: token store that keeps visual tokens of video files between processes.
        mesh: devices to use; None uses the default device.

    Raises:
        ConfigError: the tokenizer has more tokens than the model has embeddings.
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
        mesh: Mesh | None = None,
    ) -> None:
        super().__init__(Engine(config, params, mesh=mesh), tokenizer, generation)
        self.config = config
        self.sampling = sampling or SamplingConfig()
        self.selection = selection
        self._stored_clips = None if store is None else StoredClips(store, config, params)

    @property
    def params(self) -> Params:
        """Parameters, as placed by the engine."""
        return self.engine.params

    # --- videos ---------------------------------------------------------------------------------

    def encode_video(
        self,
        video: str | Path | VideoInfo,
        *,
        num_frames: int | None = None,
        start: float | None = None,
        end: float | None = None,
        verify: bool = False,
        progress: Progress | None = None,
    ) -> EncodedVideo:
        """Decodes and encodes a video file or a folder of images.

        Args:
            video: a path, or the result of `video.probe.probe`.
            num_frames: exact number of frames; a shorter video repeats some. Default: by
                `sampling`.
            start, end: part of the video to use, in seconds.
            verify: check every clip in the store; damaged ones are encoded again.
            progress: called with ("clips", done, total).

        Raises:
            VideoError: the video cannot be read or cut as requested, also when a later question
                reads frames of a file that has changed.
            ConfigError: the number of frames does not fit the model or the selection.
        """
        stored = self._stored_clips
        info, plan = sample_frames(
            video,
            self.config,
            self.sampling,
            num_frames=num_frames,
            start=start,
            end=end,
            listings=None if stored is None else stored.listings,
        )
        return self.encode_frames(
            FileFrames(
                info,
                plan.indices,
                self.config.vision.image_size,
                max_damaged=self.sampling.max_damaged,
            ),
            plan,
            name=info.path.name,
            clip_cache=self.clip_cache(info, plan, verify=verify),
            path=info.path,
            progress=progress,
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
    ) -> EncodedVideo:
        """Encodes every clip that questions about these frames may need.

        Args:
            source: source of the frames of `plan`.
            clip_cache: cache of their visual tokens (default: in memory).
            path: source file, if any.

        Raises:
            ConfigError: the number of frames does not fit the selection.
        """
        windows, num_selected = plan_selection(self.engine, self.selection, plan)
        num_frames, clip_frames = len(plan.indices), self.config.vision.clip_frames
        if clip_cache is None:
            clip_cache = MemoryClipCache()
        clips = self.clips_of(source, clip_cache, num_frames)
        starts = list(range(0, num_frames, clip_frames))
        if windows is not None:
            for window in range(len(windows.starts)):
                starts += windows.clip_starts(window, clip_frames)
        clips.prepare(
            starts,
            progress=None if progress is None else lambda *count: progress("clips", *count),
        )
        prefix, _ = split_at_video(inference_ids(self.tokenizer, "-", plan.message))
        return EncodedVideo(
            name, path, plan, clips, self.selection, windows, num_selected, tuple(prefix)
        )

    def clip_cache(self, video: VideoInfo, plan: FramePlan, *, verify: bool = False) -> ClipCache:
        """Returns the cache of the clips of a file's sampled frames: the store, or in memory.

        Args:
            verify: check every clip in the store; damaged ones are encoded again.
        """
        if self._stored_clips is None:
            return MemoryClipCache()
        return self._stored_clips.clip_cache(video, plan, verify=verify)

    def clips_of(
        self,
        source: FrameSource,
        clip_cache: ClipCache,
        num_frames: int,
        *,
        clip_frames: int | None = None,
    ) -> VideoClips:
        """Returns the clips of `num_frames` frames; this model encodes them on demand.

        Args:
            clip_frames: frames of a clip (default: the encoder's); others must all be cached.
        """
        return VideoClips(
            self.engine.encoder,
            source,
            clip_cache,
            num_frames=num_frames,
            clip_frames=clip_frames or self.config.vision.clip_frames,
        )

    def save_pretrained(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes a checkpoint that `from_pretrained` opens as an equal session.

        It contains parameters, tokenizer, frame sampling, repetition penalty and end tokens. Frame
        selection and the store are arguments of `from_pretrained`.

        Raises:
            CheckpointError: the folder exists.
        """
        save_pretrained(
            folder,
            self.config,
            self.params,
            tokenizer=self.tokenizer,
            sampling=self.sampling,
            generation=self.generation,
            overwrite=overwrite,
        )

    # --- questions ------------------------------------------------------------------------------

    def ask(
        self,
        video: EncodedVideo,
        question: str,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Answer:
        """Answers one question about an encoded video.

        Args:
            seed: random seed, used if `generation.temperature` is above 0.
            progress: called with ("windows", done, total) while frames are scored.

        Raises:
            TypeError, ValueError: as `check_question`, or the seed is out of range.
        """
        return self.ask_all(video, [question], seed=seed, progress=progress)[0]

    def ask_all(
        self,
        video: EncodedVideo,
        questions: Sequence[str],
        *,
        batch_size: int = 1,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """Answers questions about an encoded video; each window is prefilled once for all of them.

        Args: as in `ask_batch`.
        """
        questions = question_list(questions)
        return self.ask_batch(
            [video] * len(questions),
            questions,
            batch_size=batch_size,
            seed=seed,
            progress=progress,
        )

    def ask_batch(
        self,
        videos: Sequence[EncodedVideo],
        questions: Sequence[str],
        *,
        batch_size: int = 8,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """Answers one question about each video, each from its own selected frames.

        Videos may repeat and may differ in length; padding does not change answers. Shared costs
        are reported with the first of the answers.

        Args:
            batch_size: number of questions per batch.
            seed: random seed; an answer does not depend on the rest of its batch.
            progress: called with ("windows", done, total) for each video whose frames are scored.

        Raises:
            TypeError, ValueError: as `check_question`; the numbers of videos and questions differ,
                or the batch size or the seed is out of range.
        """
        return answer_batches(
            self, videos, questions, batch_size=batch_size, seed=seed, progress=progress
        )

    def chat(self, video: EncodedVideo) -> Conversation:
        """Starts a conversation about an encoded video; each turn prefills only its own text.

        Raises:
            ConfigError: the model's video states depend on the question.
        """
        return Conversation(self, video)
