"""Choosing frames by the question: the definition against ours, in one run on this machine.

    python -m launch.qc_speed                     # 1,024 and 2,048 frames, 1 and 10 questions
    python -m launch.qc_speed --frames 1024 --questions 1

The embedded model looks at made-up frames. Both sides are compiled before they are timed, get the
same decoded frames and choose the same ones, which is checked; the shortest of three runs counts.
By the definition the work for ten questions is ten times that for one, so one question is timed and
multiplied.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Sequence

import numpy as np

from xcomp_jax.config import SelectionConfig
from xcomp_jax.engine.clips import ArrayFrames
from xcomp_jax.inference.answer import Stopwatch
from xcomp_jax.inference.open_session import embedded_session
from xcomp_jax.inference.session import Session
from xcomp_jax.selection.plan import best_frames, scores_of_frames
from xcomp_jax.selection.reference import naive_scores
from xcomp_jax.selection.scoring import Query
from xcomp_jax.text.prompts import ChatIds
from xcomp_jax.video.sampling import FramePlan

RUNS = 3
QUESTION = "Question: which color flashes at second {}? Answer red, green, blue or yellow."


def measure(session: Session, num_frames: int, counts: Sequence[int]) -> list[tuple[float, float]]:
    """Seconds by the definition and ours, for each number of questions."""
    size = session.config.vision.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (num_frames, size, size, 3), np.uint8)
    times = tuple(float(i) for i in range(num_frames))
    plan = FramePlan(tuple(range(num_frames)), float(num_frames), num_frames, times)
    chat = ChatIds.of(session.tokenizer)
    assert session.selector is not None
    config = session.selector.config

    def ours(questions: int) -> list[np.ndarray]:
        memory = session.encode_frames(ArrayFrames(pixels), plan, name="made up")
        texts = [session.text_around(memory, QUESTION.format(i)) for i in range(questions)]
        scores = session.score(memory, texts, Stopwatch())
        return [one.total for one in scores if one is not None]

    memory = session.encode_frames(ArrayFrames(pixels), plan, name="made up")
    assert memory.windows is not None
    windows = memory.windows
    prefix, suffix = session.text_around(memory, QUESTION.format(0))
    header = Query.of(suffix, chat.start, chat.assistant).header

    def definition() -> np.ndarray:
        scores = naive_scores(session.reader, config, windows, pixels, prefix, suffix, header)
        return scores_of_frames(scores, windows).total

    first, second = definition(), ours(1)[0]
    select = memory.select or num_frames
    same = len(set(best_frames(first, select)) & set(best_frames(second, select)))
    if same != select:
        raise RuntimeError(f"only {same} of {select} chosen frames are the same")
    naive = least_seconds(definition)
    return [(naive * count, least_seconds(functools.partial(ours, count))) for count in counts]


def least_seconds(work: Callable[[], object]) -> float:
    """Of a few runs: whatever else the machine does only makes one longer."""
    seconds = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[1024, 2048], metavar="N")
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 10], metavar="N")
    parser.add_argument("--repeats", type=int, default=SelectionConfig.repeats)
    options = parser.parse_args(arguments)
    session = embedded_session(
        selection=SelectionConfig(select=256, min_frames=0, repeats=options.repeats)
    )
    print("| frames | questions | definition | ours | ratio |")
    print("|---|---|---|---|---|")
    for num_frames in options.frames:
        measured = measure(session, num_frames, options.questions)
        for count, (naive, ours) in zip(options.questions, measured, strict=True):
            print(
                f"| {num_frames:,} | {count} | {naive:.1f} s | {ours:.1f} s "
                f"| {naive / ours:.1f} x |",
                flush=True,
            )


if __name__ == "__main__":
    main()
