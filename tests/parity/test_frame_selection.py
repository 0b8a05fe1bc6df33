"""Parity of `frame_selection`: whole chats with question-conditioned frame selection."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pytest

from tests.parity.cases import Arrays, Case, assert_parity
from tests.parity.lm_run import NOISE_FACTOR
from tests.parity.merging_ties import other_merges
from tests.parity.recorded_model import recorded_model, split_ids
from tests.parity.test_clip_scores import selection_of
from xcomp_jax.config import SelectionConfig
from xcomp_jax.engine.clips import MemoryClipCache, VideoClips
from xcomp_jax.engine.engine import Engine
from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.selecting import plan_selection, score_frames, select_frames
from xcomp_jax.models import apply
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.selection.frame_scores import best_frames, scores_of_frames
from xcomp_jax.selection.plan import layers_to_score
from xcomp_jax.selection.query import Query
from xcomp_jax.selection.windows import plan_windows
from xcomp_jax.video.normalize import normalize
from xcomp_jax.video.preprocess import resize_bicubic
from xcomp_jax.video.sampling import FramePlan

SCORE_NOISE = 5e-8
"""Float32 against float64 of the same reference (docs/reference_behaviour.md#evaluation)."""

PUBLISHED_REPETITION_PENALTY = 1.1
"""From the published generation_config.json, active in every recording
(docs/reference_behaviour.md#evaluation)."""

pytestmark = pytest.mark.usefixtures("optimized_with_goldens")

# Of the encoder's features, recorded by the case `vision`.
VISION_NOISE = 3e-6
VISUAL_ATOL = 2e-5
MOST_CHOICES = 16


def variants(case: Case) -> list[tuple[dict[str, Any], Arrays]]:
    arrays = case.npz()
    return [
        (meta, arrays[name.replace("meta_", "io_").replace(".json", ".npz")])
        for name, meta in case.jsons().items()
    ]


def selection(meta: Mapping[str, Any]) -> SelectionConfig:
    env = meta["env"]
    return selection_of(
        env["EXTRA_PARAM_SCORE_TYPE"],
        select=int(env["EXTRA_PARAM_SELECT_AND_DROP"]),
        repeats=int(env["EXTRA_PARAM_DUPLICATE"]),
        query_bias=int(env["EXTRA_PARAM_QUERY_BIAS"]),
        window_frames=int(env.get("PATCH_WIN", 512)),
        min_frames=int(env.get("PATCH_MINSEL", 1024)),
    )


@pytest.mark.golden("frame_selection")
def test_selection_recorded_scores_equal_frames(case: Case) -> None:
    """Compares exactly all that follows from the recorded scores."""
    for meta, arrays in variants(case):
        config = selection(meta)
        windows = plan_windows(config, meta["n_frames"])
        assert list(windows.starts) == meta["window_starts"]
        assert windows.length == meta["window_length"]
        assert windows.num_clips == meta["num_score_clips_per_window"]
        counted = scores_of_frames(arrays["scores"][:, 6:24], windows)
        np.testing.assert_array_equal(counted.total, arrays["sum_score"])
        np.testing.assert_array_equal(counted.windows, arrays["values_per_frame"])
        assert config.select is not None
        others = meta["selected_for_other_counts_incl_cuts_inside_ties"]
        for count, want in {config.select: arrays["selected_idx"], **others}.items():
            assert best_frames(counted.total, int(count)) == tuple(want), (meta["variant"], count)
        control = scores_of_frames(arrays["scores"][:, 7:25], windows)
        assert best_frames(control.total, config.select) != tuple(arrays["selected_idx"])


@dataclasses.dataclass(frozen=True)
class RecordedFrames:
    """Recorded frames, resized to the model's size."""

    pixels: np.ndarray
    size: int

    def frames(self, places: Sequence[int]) -> Iterator[np.ndarray]:
        for place in places:
            yield resize_bicubic(self.pixels[place], self.size)


@dataclasses.dataclass(frozen=True)
class OtherClip:
    """Visual tokens of the clip at frame `start` after another choice of token merging.

    ratio: gap between the choices over the noise of the gap; below 1, noise can turn the choice.
    """

    ratio: float
    start: int
    tokens: np.ndarray


def tied_clips(model: XComp, params: Params, video: EncodedVideo) -> list[OtherClip]:
    """Finds all clips in which float noise can turn a choice of merging, the most likely first."""
    features_of = jax.jit(lambda p, x: apply.vision_features(model, p, normalize(x)))
    project = jax.jit(lambda p, x: apply.project_merged(model, p, x))
    assert video.windows is not None
    clip = model.config.vision.clip_frames
    target = clip * model.config.projector.tokens_per_frame
    windows = range(len(video.windows.starts))
    starts = sorted({s for w in windows for s in video.windows.clip_starts(w, clip)})
    found = []
    for start in starts:
        pixels = np.stack(list(video.clips.source.frames(video.clips.clip_at(start))))[None]
        features = np.asarray(features_of(params, pixels)[0])
        # Two programs, each as far from the truth as the recording.
        others = other_merges(features, target, model.config.vision.num_heads, 2 * VISION_NOISE)
        found += [
            OtherClip(ratio, start, np.asarray(project(params, merged[None])[0]))
            for ratio, merged in others
        ]
    return sorted(found, key=lambda other: other.ratio)


def choices_of(others: Sequence[OtherClip]) -> Iterator[dict[int, np.ndarray]]:
    """Yields sets of other clips, single ones first, at most one for every start."""
    for size in range(1, len(others) + 1):
        for choice in itertools.combinations(others, size):
            tokens = {other.start: other.tokens for other in choice}
            if len(tokens) == size:
                yield tokens


def check_chat(case: Case, meta: dict[str, Any], arrays: Arrays) -> None:
    model, params = recorded_model(case, meta["env"], factored=True)
    config, count = selection(meta), meta["n_frames"]
    engine = Engine(model.config, params)
    clip_frames = model.config.vision.clip_frames
    clip_cache = MemoryClipCache()
    clips = VideoClips(
        engine.encoder,
        RecordedFrames(arrays["frames"], model.config.vision.image_size),
        clip_cache,
        num_frames=count,
        clip_frames=clip_frames,
    )
    plan = FramePlan(tuple(range(count)), count / meta["fps"], count, ())
    windows, num_selected = plan_selection(engine, config, plan)
    assert windows is not None
    prefix, suffix = (part[0].tolist() for part in split_ids(np.array(meta["input_ids"])))
    video = EncodedVideo(
        "recorded", None, plan, clips, config, windows, num_selected, tuple(prefix)
    )

    want = arrays["window0_first2_clips_visual_tokens"]
    first = [clips.clip_at(i * clip_frames) for i in range(len(want))]
    shifted = [clips.clip_at(i * clip_frames + 1) for i in range(len(want))]
    assert_parity(
        clips.tokens(first),
        want,
        atol=VISUAL_ATOL,
        control=clips.tokens(shifted),
    )

    header = meta["first_conv_length"][0] - len(prefix) - 1
    query = Query.of(
        suffix,
        query_bias=config.query_bias,
        text_start=0,
        header_ids=(suffix[header], suffix[header + 1]),
    )
    (scores,) = score_frames(engine, video, [query])
    # A sum over the layers of a mean over windows.
    layers = layers_to_score(config, model.config.llm.num_hidden_layers)
    wrong = scores_of_frames(arrays["scores"][:, layers[0] + 1 : layers[1] + 1], windows)
    tolerance = NOISE_FACTOR * SCORE_NOISE * (layers[1] - layers[0])
    assert select_frames(video, scores) == tuple(arrays["selected_idx"]), meta["variant"]
    if np.abs(scores.total - arrays["sum_score"]).max() > tolerance:
        others = tied_clips(model, params, video)
        unchanged = clip_cache.read(other.start for other in others)
        for choice in itertools.islice(choices_of(others), MOST_CHOICES):
            clip_cache.write({**unchanged, **choice})
            video.window_caches.clear()
            (scores,) = score_frames(engine, video, [query])
            if np.abs(scores.total - arrays["sum_score"]).max() <= tolerance:
                print(f"{meta['variant']}: merged the other way in the clips at {sorted(choice)}")
                break
    assert_parity(scores.total, arrays["sum_score"], atol=tolerance, control=wrong.total)
    selected = select_frames(video, scores)
    assert selected == tuple(arrays["selected_idx"]), meta["variant"]

    cache = engine.prefill_video([video.visual_tokens(selected)], [prefix])
    ids = meta["final_generated_ids"]
    generation = GenerationConfig(
        max_new_tokens=len(ids), repetition_penalty=PUBLISHED_REPETITION_PENALTY
    )
    state = engine.extend(cache, [suffix], max_new_tokens=len(ids))
    generated = engine.generate(state, generation)
    assert np.asarray(generated.ids[0])[: int(generated.count[0])].tolist() == ids, meta["variant"]
    assert ids not in meta["generated_ids_per_window"], "windows answer differently"


@pytest.mark.golden("frame_selection")
def test_selection_small_windows_equal_chats(case: Case, request: pytest.FixtureRequest) -> None:
    """Runs chats with small windows: one variant, or all with --goldens (each compiles anew)."""
    small = [variant for variant in variants(case) if not variant[0]["true_constants"]]
    tested = small if request.config.getoption("--goldens") else small[-1:]
    for meta, arrays in tested:
        check_chat(case, meta, arrays)


@pytest.mark.golden("frame_selection")
def test_selection_full_windows_equal_chats(case: Case, request: pytest.FixtureRequest) -> None:
    """Runs chats with windows of 576 frames."""
    if not request.config.getoption("--goldens"):
        pytest.skip("windows of true size take minutes; --goldens DIR runs them")
    for meta, arrays in variants(case):
        if meta["true_constants"]:
            check_chat(case, meta, arrays)
