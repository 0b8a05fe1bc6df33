"""Runs the engine on one device and on meshes of eight CPU devices, for test_mesh.py.

Prints a JSON object with the results of every step on the meshes that are named, and the sharding
of parameters on all.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import numpy as np

from tests.tiny import TINY, tiny_params
from xcomp_jax.account import Account
from xcomp_jax.config import MeshConfig, SelectionConfig
from xcomp_jax.engine.clips import ArrayFrames
from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.session import Session
from xcomp_jax.sharding import make_mesh
from xcomp_jax.text.tokenizer import builtin_tokenizer
from xcomp_jax.video.sampling import FramePlan

SELECTION = SelectionConfig(
    select=8,
    min_frames=12,
    repeats=3,
    window_frames=16,
    segment_clips=2,
    segment_stride=1,
    query_bias=2,
)
LENGTHS = (40, 56, 8)
"""Frames of three videos; only the last one uses all of its frames."""
QUESTIONS = ("What color is it?", "When does the flash appear, early or late?", "Which way?")
MESHES = {
    "replicated": MeshConfig(data=8, fsdp=1),
    "sharded": MeshConfig(data=2, fsdp=4),
    "tensor": MeshConfig(data=1, fsdp=2, tensor=2, context=2),
}


STILL = ("single", "replicated")
"""Meshes on which `still_video` runs too."""


def encode(session: Session) -> list[EncodedVideo]:
    rng, size = np.random.default_rng(0), TINY.vision.image_size
    videos = []
    for i, count in enumerate(LENGTHS):
        pixels = rng.integers(0, 256, (count, size, size, 3), np.uint8)
        times = tuple(float(t) for t in range(count))
        plan = FramePlan(tuple(range(count)), float(count), count, times)
        videos.append(session.encode_frames(ArrayFrames(pixels), plan, name=f"video {i}"))
    return videos


def still_video(session: Session) -> dict[str, Any]:
    """Encodes a video of equal frames with one other frame; returns the work and the tokens."""
    size, count = TINY.vision.image_size, 24
    pixels = np.full((count, size, size, 3), 90, np.uint8)
    pixels[13, 0, 0, 0] += 1
    plan = FramePlan(tuple(range(count)), float(count), count, tuple(map(float, range(count))))
    with Account() as account:
        tokens = session.encode_frames(ArrayFrames(pixels), plan, name="still").visual_tokens(None)
    clips = tokens.reshape(count // TINY.vision.clip_frames, -1)
    return {"work": account.work, "clips": clips.astype(float).tolist()}


def results(session: Session, videos: list[EncodedVideo]) -> dict[str, Any]:
    """Returns the outputs of every engine step for a batch of three videos."""
    engine = session.engine
    scores = [session.score_frames(v, q) for v, q in zip(videos, QUESTIONS, strict=True)]
    suffixes = [session.text_after(v, q) for v, q in zip(videos, QUESTIONS, strict=True)]
    visual = [video.visual_tokens(None) for video in videos]
    cache = engine.prefill_video(visual, [video.prefix_ids for video in videos])
    state = engine.extend(cache, suffixes, max_new_tokens=session.generation.max_new_tokens)
    answers = session.ask_batch(videos, QUESTIONS)
    return {
        "tokens": [x.astype(float).tolist() for x in visual],
        "scores": [None if s is None else s.total.tolist() for s in scores],
        "logits": np.asarray(state.logits, float)[: state.size].tolist(),
        "selected": [answer.selected_frames for answer in answers],
        "answers": [answer.token_ids for answer in answers],
        "alone": [session.ask(v, q).token_ids for v, q in zip(videos, QUESTIONS, strict=True)],
        "scores again": [None if a.scores is None else a.scores.tolist() for a in answers],
        "windows": [0 if v.windows is None else len(v.windows.starts) for v in videos],
    }


def sharded_parameters(session: Session) -> dict[str, int]:
    """Returns the number of shards of each parameter of at least 512 elements."""
    leaves = jax.tree_util.tree_leaves_with_path(session.params)
    return {
        jax.tree_util.keystr(path): leaf.size // int(np.prod(leaf.sharding.shard_shape(leaf.shape)))
        for path, leaf in leaves
        if leaf.size >= 512
    }


def main(names: list[str]) -> None:
    generation = GenerationConfig(max_new_tokens=6)
    report: dict[str, Any] = {}
    for name, config in {"single": None, **MESHES}.items():
        session = Session(
            TINY,
            tiny_params(),
            builtin_tokenizer(),
            generation=generation,
            selection=SELECTION,
            mesh=None if config is None else make_mesh(config),
        )
        report[name] = {}
        if config is None or name in names:
            videos = encode(session)
            report[name] = results(session, videos)
        if name in STILL:
            report[name]["still"] = still_video(session)
        if config is None:
            # Control: another video in place of the first.
            report["control"] = results(session, [videos[1], videos[1], videos[2]])
        else:
            report[name]["num_shards"] = sharded_parameters(session)
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
