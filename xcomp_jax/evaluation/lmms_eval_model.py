"""Runs tasks of lmms-eval (0.7) on a checkpoint: `lmms_eval --model xcomp_jax`.

Needs the package lmms-eval, which brings PyTorch. The harness passes all requests of a task at
once; they are grouped by video, so that a video is decoded and encoded once.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages

from xcomp_jax.config import DType, SamplingConfig, SelectionConfig
from xcomp_jax.inference.open_session import DEFAULT_SELECTION
from xcomp_jax.pretrained import from_pretrained
from xcomp_jax.terminal.progress import ProgressBar
from xcomp_jax.video.errors import VideoError

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class VideoRequest:
    """One request of the harness: a video, the text after the time message, and its settings."""

    video: str
    text: str
    max_new_tokens: int
    temperature: float
    top_p: float


class XCompJax(lmms):
    """The model of lmms-eval; arguments are those of `--model_args NAME=VALUE,...`.

    Args:
        pretrained: checkpoint folder or hub id.
        batch_size: questions per batch.
        fps, min_frames, max_frames: frame sampling; the defaults are XComp's.
        select: number of selected frames of every video; "all" uses every frame; None follows the
            paper's rule.
        dtype: dtype of parameters and arithmetic (default: as `from_pretrained`).
        store: folder of a token store.
        max_batch_size, device: passed by the harness; JAX uses all local devices.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str = 1,
        *,
        fps: int = 8,
        min_frames: int = 128,
        max_frames: int = 1024,
        select: int | str | None = None,
        dtype: DType | None = None,
        store: str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        self.device = "cpu"  # where the harness gathers answers of processes
        self._batch_size = int(batch_size)
        selection: SelectionConfig | None = DEFAULT_SELECTION
        if select is not None:
            selection = (
                None if select == "all" else SelectionConfig(select=int(select), min_frames=0)
            )
        self._session = from_pretrained(
            pretrained,
            dtype=dtype,
            sampling=SamplingConfig(
                fps=fps, min_frames=min(min_frames, max_frames), max_frames=max_frames
            ),
            selection=selection,
            store=store,
        )

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answers all requests in their order; a broken video gives empty answers and a warning.

        Raises:
            ValueError: a request has not exactly one video.
        """
        parsed = [self._parse(request) for request in requests]
        groups: dict[tuple[str, int, float, float], list[int]] = {}
        for index, request in enumerate(parsed):
            key = (request.video, request.max_new_tokens, request.temperature, request.top_p)
            groups.setdefault(key, []).append(index)
        answers = [""] * len(parsed)
        with ProgressBar(total=len(parsed), unit="question") as bar:
            # Sorted, so that requests about one video follow each other.
            for _, indices in sorted(groups.items()):
                texts = self._answer([parsed[index] for index in indices])
                for index, text in zip(indices, texts, strict=True):
                    answers[index] = text
                bar.update(len(indices))
        return answers

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        raise NotImplementedError("xcomp_jax generates answers; choose a generate_until task")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise NotImplementedError(
            "xcomp_jax answers single questions; choose a generate_until task"
        )

    def _parse(self, request: Any) -> VideoRequest:
        _, doc_to_messages, settings, doc_id, task, split = request.args
        messages = ChatMessages(messages=doc_to_messages(self.task_dict[task][split][doc_id]))
        _, videos, _ = messages.extract_media()
        if len(videos) != 1 or not isinstance(videos[0], str):
            raise ValueError(
                f"{task} {doc_id}: xcomp_jax answers questions about one video file, this one has "
                f"{len(videos)} videos"
            )
        texts = [
            content.text
            for message in messages.messages
            if message.role == "user"
            for content in message.content
            if content.type == "text"
        ]
        sampled = settings.get("do_sample", True) and settings.get("temperature")
        return VideoRequest(
            video=videos[0],
            text="\n".join(texts),
            max_new_tokens=int(settings.get("max_new_tokens", 64)),
            temperature=float(sampled or 0.0),
            top_p=float(settings.get("top_p") or 1.0) if sampled else 1.0,
        )

    def _answer(self, requests: Sequence[VideoRequest]) -> list[str]:
        """Answers questions about one video with equal settings."""
        first, session = requests[0], self._session
        session.generation = dataclasses.replace(
            session.generation,
            max_new_tokens=first.max_new_tokens,
            temperature=first.temperature,
            top_p=first.top_p,
        )
        try:
            video = session.encode_video(first.video)
            texts = [request.text for request in requests]
            answers = session.ask_all(video, texts, batch_size=self._batch_size)
        except VideoError as error:
            logger.warning("%s: %d empty answers", error, len(requests))
            return [""] * len(requests)
        return [answer.text for answer in answers]
