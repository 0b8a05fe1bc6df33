"""Opens the demo checkpoint that ships with the package."""

from __future__ import annotations

from jax.sharding import Mesh

from xcomp_jax.config import DType, SelectionConfig
from xcomp_jax.demo import CHECKPOINT, FOLDER, demo_videos
from xcomp_jax.inference.open_session import DEFAULT_SELECTION, open_session
from xcomp_jax.inference.session import Session
from xcomp_jax.models.quantized import Quantization
from xcomp_jax.token_store import TokenStore

DEMO_SELECTION = SelectionConfig(
    select=32, min_frames=64, segment_clips=2, segment_stride=1, window_frames=64, repeats=4
)
"""The setting, of twelve tried, with which all twelve listed answers are right, so that they show
what an answer looks like and not how accurate the checkpoint is; the others reach 9 to 11."""


def open_demo(
    *,
    dtype: DType | None = None,
    selection: SelectionConfig | None = DEFAULT_SELECTION,
    store: TokenStore | None = None,
    mesh: Mesh | None = None,
    quantize: Quantization | None = None,
) -> Session:
    """Opens the demo checkpoint; arguments are those of `open_session`.

    Args:
        selection: frame selection (default: `DEMO_SELECTION`); None uses all frames.
    """
    if selection is DEFAULT_SELECTION:
        selection = DEMO_SELECTION
    return open_session(
        CHECKPOINT, dtype=dtype, selection=selection, store=store, mesh=mesh, quantize=quantize
    )


def demo_note() -> str:
    """Returns a sentence about the toy and the questions that it can answer."""
    texts = [question.text for question in demo_videos()[-1].questions]
    return (
        "a toy answers: it knows only the videos of `xcomp demo` "
        f"({FOLDER}/*.mp4) and the questions {', '.join(map(repr, texts))}"
    )
