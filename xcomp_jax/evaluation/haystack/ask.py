"""Asks a model about needles; nothing of the haystack is encoded again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from xcomp_jax.evaluation.haystack.tokens import NeedleFrames
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.selecting import select_frames, window_batches
from xcomp_jax.inference.session import Session
from xcomp_jax.selection.plan import frames_to_select
from xcomp_jax.selection.windows import plan_windows
from xcomp_jax.text.chatml import (
    SYSTEM,
    Mark,
    Part,
    encode_parts,
    encode_text,
    split_at_video,
    turn_parts,
)
from xcomp_jax.text.inference_prompt import question_parts
from xcomp_jax.video.decode import Frame
from xcomp_jax.video.sampling import FramePlan


def needle_video(session: Session, frames: NeedleFrames, name: str) -> EncodedVideo:
    """Returns a haystack with needles as an encoded video of one-frame clips.

    Raises:
        ConfigError: the frames cannot be scored.
    """
    count, fps = len(frames), session.sampling.fps
    plan = FramePlan(
        indices=tuple(range(count)),
        duration=count / fps,
        num_frames=count,
        times=tuple(frame / fps for frame in range(count)),
    )
    clips = session.clips_of(NoFrames(), frames, count, clip_frames=1)
    selection = session.selection
    windows = selected = None
    if selection is not None:
        selected = frames_to_select(selection, num_frames=count, duration=plan.duration)
        windows = None if selected is None else plan_windows(selection, count)
    prefix, _ = split_at_video(encode_parts(session.tokenizer, prompt_parts("-")))
    return EncodedVideo(name, None, plan, clips, selection, windows, selected, tuple(prefix))


def share_windows(
    session: Session, source: EncodedVideo, target: EncodedVideo, needles: Sequence[range]
) -> None:
    """Copies the window caches of frames of the haystack alone.

    They are equal for all needles at the same places of equally long haystacks.

    Args:
        needles: frames of each needle, in both videos.
    """
    if source.windows is None or source.windows != target.windows:
        return
    total, length = source.windows.num_frames, source.windows.length
    for batch, numbers in enumerate(window_batches(session.engine, source.windows)):
        starts = [source.windows.starts[number] for number in numbers]
        touched = any(
            (frame - start) % total < length
            for start in starts
            for needle in needles
            for frame in needle
        )
        if not touched and batch in source.window_caches:
            target.window_caches[batch] = source.window_caches[batch]


class NoFrames:
    """The `FrameSource` of a video whose frames are all encoded."""

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        raise AssertionError("frames of a haystack are encoded before any question")


def prompt_parts(question: str, time_message: str = "") -> list[Part]:
    """Returns the prompt around a haystack.

    Args:
        time_message: as in other prompts; empty for the original's, which has neither a message nor
            a line break between video and question.
    """
    content = question_parts(question, time_message) if time_message else [Mark.VIDEO, question]
    system, user = turn_parts("system", [SYSTEM]), turn_parts("user", content)
    return [*system, *user, Mark.START, "assistant\n"]


@dataclasses.dataclass(frozen=True)
class NeedleAnswer:
    """Text of the most likely tokens at the answer's positions, and the selected frames."""

    text: str
    selected_frames: tuple[int, ...] | None


def ask(
    session: Session, video: EncodedVideo, question: str, gold: str, *, time_message: bool
) -> NeedleAnswer:
    """Generates as many tokens as the right answer has, greedily.

    The original compares the most likely token at every position given the right tokens before it.
    Both are right for the same answers: they differ only behind the first wrong token.
    """
    message = video.plan.message if time_message else ""
    _, suffix = split_at_video(encode_parts(session.tokenizer, prompt_parts(question, message)))
    (scores,) = session.score_questions([video], [suffix])
    selected = select_frames(video, scores)
    length = len(encode_text(session.tokenizer, gold))
    generation = dataclasses.replace(
        session.generation, max_new_tokens=length, repetition_penalty=1.0
    )
    engine = session.engine
    if engine.caches_video:
        cache = session.cache_of(video, selected)
        state = engine.extend(cache, [suffix], max_new_tokens=length)
    else:
        visual = video.visual_tokens(selected)
        state = engine.prefill([visual], [video.prefix_ids], [suffix])
    generated = engine.generate(state, generation)
    ids = np.asarray(generated.ids[0, : generated.count[0]])
    return NeedleAnswer(session.tokenizer.decode(ids, skip_special_tokens=True), selected)
