"""Generates a haystack and needles for the NIAH tasks, so that they run without films and photos.

`write_synthetic_niah` writes a data folder in the layout of the public one. The haystack is a grey,
slowly changing texture at one frame per second. A needle of the single-hop task shows one colored
shape, and the question is its color. In a chain of the multi-hop task, every image shows a
colored shape on the left and, on the right, the one to look for next on the left of another image;
beside the last one is a plain patch of color. Equal arguments give equal files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from xcomp_jax.data.synthetic.mp4 import encode_mp4
from xcomp_jax.data.synthetic.render import RGB
from xcomp_jax.data.synthetic.video_spec import COLORS, SHAPES
from xcomp_jax.evaluation.scoring import letter_at
from xcomp_jax.evaluation.tasks.niah import GRID_FILE
from xcomp_jax.files import write_json

Symbol = tuple[str, str]
"""(color, shape)."""

CHAIN = 7
"""Images of a chain, as in the public set."""

FINAL = "\nOnly give the best option. Best option: ("

SECONDS_PER_TEXTURE = 20
"""The haystack fades from one texture to the next in this time."""


def write_synthetic_niah(
    folder: Path,
    *,
    seed: int = 0,
    frames: int = 10_000,
    size: int = 64,
    questions: int = 20,
    chains: int = 100,
    shuffle_options: bool = True,
    grid: tuple[Sequence[int], Sequence[float]] | None = None,
) -> None:
    """Writes haystack, needle images and both question files.

    Args:
        frames: length of the haystack; the published grid goes up to 10,000.
        size: side of the pictures in pixels, even.
        questions, chains: number of single-hop questions and of multi-hop chains.
        shuffle_options: False lists the colors of single-hop questions in one order, for tiny
            models that know letters but no lists.
        grid: lengths and depths (default: the published ones).
    """
    rng = np.random.default_rng([seed, 1])
    haystack = folder / "haystack_videos" / "video_haystack.mp4"
    for path in (haystack, folder / "single" / "0.png", folder / "multi" / "0.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
    encode_mp4(haystack_frames(frames, size=size, seed=seed), haystack, fps=1)
    single = [_single(rng, index, folder, size, shuffle_options) for index in range(questions)]
    write_json(folder / "niah-coco-singlehop_20.json", single)
    if grid is not None:
        write_json(folder / GRID_FILE, {"frames": list(grid[0]), "depths": list(grid[1])})
    multi = [_multi(rng, index, folder, size) for index in range(chains)]
    write_json(folder / "niah-coco-multihop-100.json", multi)


def haystack_frames(count: int, *, size: int, seed: int) -> NDArray[np.uint8]:
    """Renders `count` grey frames, uint8 [F, H, W, 3]; longer haystacks begin with shorter ones."""
    textures = [_texture(seed, index, size) for index in range(count // SECONDS_PER_TEXTURE + 2)]
    frames = np.empty((count, size, size, 3), np.uint8)
    for second in range(count):
        index, rest = divmod(second, SECONDS_PER_TEXTURE)
        share = rest / SECONDS_PER_TEXTURE
        frames[second] = ((1 - share) * textures[index] + share * textures[index + 1])[..., None]
    return frames


def needle_image(symbol: Symbol, size: int) -> Image.Image:
    """Draws one symbol in the middle of a dark picture."""
    image = Image.new("RGB", (size, size), (16, 16, 16))
    _draw(image, symbol, size / 2, size / 2, 0.35 * size)
    return image


def chain_image(left: Symbol, right: Symbol | None, patch: str, size: int) -> Image.Image:
    """Draws two symbols side by side, or one beside a plain patch if `right` is None."""
    image = Image.new("RGB", (size, size), (16, 16, 16))
    _draw(image, left, size / 4, size / 2, 0.2 * size)
    if right is None:
        ImageDraw.Draw(image).rectangle((size // 2, 0, size, size), fill=RGB[patch])
    else:
        _draw(image, right, 3 * size / 4, size / 2, 0.2 * size)
    return image


def single_prompt(rng: np.random.Generator | None, shape: str, color: str) -> tuple[str, str]:
    """Returns a single-hop question with its options, in random order unless `rng` is None, and the
    right letter."""
    options, answer = _options(rng, COLORS, color)
    return f"Find the frame of a {shape}. what color is the {shape}{options}", answer


def _texture(seed: int, index: int, size: int) -> NDArray[np.float64]:
    """Returns smooth grey noise, float [H, W] in [60, 180]."""
    coarse = np.random.default_rng([seed, 2, index]).uniform(60, 180, (6, 6))
    picture = Image.fromarray(coarse.astype(np.float32))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR), np.float64)


def _draw(image: Image.Image, symbol: Symbol, x: float, y: float, radius: float) -> None:
    color, shape = symbol
    draw, fill, r = ImageDraw.Draw(image), RGB[color], radius
    if shape == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    elif shape == "square":
        draw.rectangle((x - r, y - r, x + r, y + r), fill=fill)
    elif shape == "triangle":
        draw.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=fill)
    else:
        draw.rectangle((x - r, y - r / 3, x + r, y + r / 3), fill=fill)
        draw.rectangle((x - r / 3, y - r, x + r / 3, y + r), fill=fill)


def _single(
    rng: np.random.Generator, index: int, folder: Path, size: int, shuffle: bool
) -> dict[str, Any]:
    color, shape = str(rng.choice(COLORS)), str(rng.choice(SHAPES))
    name = f"single/{index}.png"
    needle_image((color, shape), size).save(folder / name)
    question, answer = single_prompt(rng if shuffle else None, shape, color)
    return {"question": question, "answer": answer, "image": name, "id": index}


def _multi(rng: np.random.Generator, index: int, folder: Path, size: int) -> dict[str, Any]:
    symbols = [(color, shape) for color in COLORS for shape in SHAPES]
    chain = [symbols[place] for place in rng.permutation(len(symbols))[:CHAIN]]
    patch = str(rng.choice(COLORS))
    names = [f"multi/{index}_{place}.png" for place in range(CHAIN)]
    for place, name in enumerate(names):
        following = chain[place + 1] if place + 1 < CHAIN else None
        chain_image(chain[place], following, patch, size).save(folder / name)
    start = (
        f"Find the frame with a {' '.join(chain[0])} on the left. The symbol on the right of each "
        "frame is on the left of the next one to find. Go on to the last frame, "
    )
    captions = [f"a {' '.join(symbol)} beside a plain color" for symbol in chain[-4:]]
    caption_options, caption = _options(rng, captions, captions[-1])
    color_options, color = _options(rng, COLORS, patch)
    return {
        "images": names,
        "question1": f"{start}and choose the caption that describes it:{caption_options}",
        "answer1": caption,
        "question2": f"{start}and answer: what is the plain color{color_options}",
        "answer2": color,
    }


def _options(rng: np.random.Generator | None, values: Sequence[str], right: str) -> tuple[str, str]:
    """Returns the options as the public questions have them, in random order, and the letter."""
    order = list(values) if rng is None else [str(v) for v in rng.permutation(list(values))]
    lines = "\n".join(f"({letter_at(index)}) {value}" for index, value in enumerate(order))
    return f"\nOptions: {lines}{FINAL}", letter_at(order.index(right))
