"""Options that several commands share, and what they build."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xcomp_jax.config import SelectionConfig
    from xcomp_jax.inference.answer import Answer
    from xcomp_jax.inference.session import Session

STORE = Path("~/.cache/xcomp-jax/tokens")
GIB = 1 << 30


def add_cache_dir(parser: argparse.ArgumentParser) -> None:
    """`--cache-dir`, where compiled programs are kept between processes."""
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=Path("~/.cache/xcomp-jax/compiled"),
        metavar="DIR",
        help="compiled programs are kept here, so that the next run starts faster "
        "(default: %(default)s)",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which model, and how it runs."""
    parser.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="from xcomp tune or python -m convert"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="default: float32 on a CPU, as the checkpoint elsewhere",
    )
    add_cache_dir(parser)


def add_generation(parser: argparse.ArgumentParser) -> None:
    """How answers are made."""
    parser.add_argument("--max-new-tokens", type=int, default=64, metavar="N", help="default: 64")
    parser.add_argument("--temperature", type=float, help="above 0: sample instead of greedy")
    parser.add_argument(
        "--top-p",
        type=float,
        help="with --temperature: only from the likeliest tokens of this mass",
    )
    parser.add_argument("--seed", type=int, default=0, help="of sampling (default: 0)")


def add_frames(parser: argparse.ArgumentParser) -> None:
    """Which part of a video is looked at."""
    parser.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="look at exactly N frames, a multiple of the encoder's clip length "
        "(default: chosen by duration, as the original does)",
    )
    parser.add_argument("--start", type=float, metavar="S", help="look only from this second on")
    parser.add_argument("--end", type=float, metavar="S", help="look only up to this second")


def add_selection(parser: argparse.ArgumentParser) -> None:
    """How a question chooses frames."""
    group = parser.add_argument_group(
        "choosing frames by the question",
        "Without --select: of 1,024 frames or more, 512 are kept for a video below an hour, 2,048 "
        "for a longer one; all are kept when there are no more than that.",
    )
    group.add_argument(
        "--select",
        type=_select,
        metavar="K",
        help="keep K frames, of a video with fewer than 1,024 frames too; 'all' keeps every frame",
    )
    group.add_argument(
        "--repeats", type=int, metavar="R", help="score R times in shifted windows (default: 2)"
    )
    group.add_argument(
        "--segment",
        type=int,
        metavar="A",
        help="clips of 8 frames scored together (default: 8); 0 scores whole windows at once",
    )
    group.add_argument("--stride", type=int, metavar="B", help="clips between segments (default 4)")
    group.add_argument(
        "--layers",
        type=_layers,
        metavar="A:B",
        help="layers whose attention counts, the last one exclusive (default: 6:24 of 28)",
    )
    group.add_argument(
        "--granularity",
        choices=("frame", "clip"),
        help="'clip' keeps whole clips, whose visual tokens are then used again: faster, not as "
        "published (default: frame)",
    )


def add_store(parser: argparse.ArgumentParser, *, default: Path | None) -> None:
    """Where visual tokens are kept."""
    parser.add_argument(
        "--store",
        type=Path,
        metavar="DIR",
        default=default,
        help="keep visual tokens here and use those that are there"
        + ("" if default is None else " (default: %(default)s)"),
    )
    parser.add_argument(
        "--store-gib",
        type=float,
        default=50.0,
        metavar="G",
        help="largest size of the store; videos not used for longest go first (default: 50)",
    )


def _select(text: str) -> int | str:
    return text if text == "all" else int(text)


def _layers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(":"))


def selection_of(options: argparse.Namespace) -> SelectionConfig | None:
    """The selection that was asked for; None keeps all frames."""
    from xcomp_jax.config import SelectionConfig

    if options.select == "all":
        return None
    whole = options.segment == 0
    given = {
        "select": options.select,
        # A number asked for is met whatever the length of the video.
        "min_frames": None if options.select is None else 0,
        "repeats": options.repeats,
        "scope": "global" if whole else None,
        "segment_clips": None if whole else options.segment,
        "segment_stride": options.stride,
        "layers": options.layers,
        "granularity": options.granularity,
    }
    chosen: Any = {name: value for name, value in given.items() if value is not None}
    return SelectionConfig(**chosen)


def open_asked(options: argparse.Namespace) -> Session:
    """The session of `--checkpoint`, or the embedded one, which says that it is no use."""
    from xcomp_jax.engine.compilation import use_compilation_cache
    from xcomp_jax.engine.generate import GenerationConfig
    from xcomp_jax.inference.open_session import embedded_session, open_session
    from xcomp_jax.token_store import TokenStore

    selection = selection_of(options)
    changes = {
        name: getattr(options, name, None) for name in ("max_new_tokens", "temperature", "top_p")
    }
    chosen: Any = {name: value for name, value in changes.items() if value is not None}
    GenerationConfig(**chosen)  # a wrong one is refused before the model is read
    use_compilation_cache(options.cache_dir.expanduser())
    store = None
    if options.store is not None:
        store = TokenStore(options.store.expanduser(), max_bytes=int(options.store_gib * GIB))
    if options.checkpoint is None:
        print(
            f"xcomp {options.command}: no --checkpoint: random weights of the tiny embedded model, "
            "the answer means nothing. Train one with `xcomp tune --config configs/smoke.py "
            "--workdir runs/smoke` and give --checkpoint runs/smoke/checkpoint",
            file=sys.stderr,
        )
        session = embedded_session(dtype=options.dtype, selection=selection, store=store)
    else:
        session = open_session(
            options.checkpoint, dtype=options.dtype, selection=selection, store=store
        )
    session.generation = dataclasses.replace(session.generation, **chosen)
    return session


class Bars:
    """Progress on stderr: a bar for whatever is being worked on; use as a context."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._name = ""

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __call__(self, name: str, done: int, total: int) -> None:
        """Shows that `done` of `total` are done."""
        from tqdm import tqdm

        if self._bar is None or name != self._name:
            self.__exit__()
            self._bar, self._name = tqdm(desc=name, unit=name.rstrip("s"), leave=False), name
        self._bar.total = total
        self._bar.update(done - self._bar.n)


def account(answer: Answer) -> str:
    """Where the time went, one line."""
    parts = "  ".join(f"{name} {seconds:.2f} s" for name, seconds in answer.seconds.items())
    work = "  ".join(f"{count} {name}" for name, count in answer.work.items() if count)
    frames = f"{answer.num_frames} frames of {answer.duration:.2f} s"
    if answer.selected_frames is not None:
        frames += f", answered from {len(answer.selected_frames)}"
    return f"{frames}   {parts}   {work}   {answer.compilations} programs compiled"
