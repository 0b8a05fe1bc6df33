"""Parity of `end_to_end`: from uint8 frames to answer ids, a whole chat() of the original."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from typing import Any

import jax
import numpy as np
import pytest

from tests.parity.cases import Case, assert_parity
from tests.parity.lm_run import Inputs, Run, run_prefill
from tests.parity.recorded_model import recorded_model, split_ids
from xcomp_jax.engine.programs import encode_clips
from xcomp_jax.models import apply
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.video.normalize import normalize
from xcomp_jax.video.preprocess import resize_bicubic

PIXEL_ATOL, FEATURE_ATOL = 1e-5, 2e-5
LOGIT_NOISE_FACTOR = 4


pytestmark = pytest.mark.usefixtures("optimized_with_goldens")


@dataclasses.dataclass(frozen=True)
class Chat:
    """One recorded run up to prefill; in `control` the frames are shifted by one place."""

    model: XComp
    params: Params
    frames: np.ndarray  # F S S 3, resized
    tokens: np.ndarray  # clips, tokens, D
    wrong_tokens: np.ndarray
    run: Run
    control: Run


def encode_video(model: XComp, params: Params, frames: np.ndarray) -> np.ndarray:
    clip = model.config.vision.clip_frames
    clips = frames.reshape(-1, clip, *frames.shape[1:])
    return np.concatenate(
        [encode_clips(model, params, clips[i : i + 2]) for i in range(0, len(clips), 2)]
    )


@functools.lru_cache(maxsize=2)
def chat(case: Case, number: int) -> Chat:
    entry = case.meta["runs"][number]
    name = f"{entry['name']}__"
    model, params = recorded_model(case, entry["env"], factored=True)
    size = model.config.vision.image_size
    frames = np.stack([resize_bicubic(frame, size) for frame in case.io[f"{name}frames"]])
    tokens = encode_video(model, params, frames)
    wrong = encode_video(model, params, np.roll(frames, 1, axis=0))
    prefix, suffix = split_ids(case.io[f"{name}input_ids"])
    runs = [
        run_prefill(model, params, Inputs(prefix, visual.reshape(1, -1, visual.shape[-1]), suffix))
        for visual in (tokens, wrong)
    ]
    return Chat(model, params, frames, tokens, wrong, *runs)


Runs = list[tuple[dict[str, Any], str, Chat]]
"""Recorded values of a run, the prefix of its arrays, and our run."""


@pytest.fixture(name="runs")
def runs_fixture(case: Case, request: pytest.FixtureRequest) -> Runs:
    """Returns the first chat, or all with --goldens (each compiles its own programs)."""
    entries = case.meta["runs"]
    tested = entries if request.config.getoption("--goldens") else entries[:1]
    return [
        (entry, f"{entry['name']}__", chat(case, number)) for number, entry in enumerate(tested)
    ]


@pytest.mark.golden("end_to_end")
def test_chat_recorded_frames_equal_visual_tokens(case: Case, runs: Runs) -> None:
    for entry, name, done in runs:
        pixels = np.moveaxis(normalize(done.frames), -1, 1)
        for key, want in case.io.matching(rf"{name}pixel_values_frame\d+").items():
            frame = int(re.search(r"(\d+)$", key).group(1))
            control = pixels[(frame + 1) % len(pixels)]
            assert_parity(pixels[frame], want, atol=PIXEL_ATOL, control=control)
        clip = done.model.config.vision.clip_frames
        features = jax.jit(lambda p, x, m=done.model: apply.vision_features(m, p, normalize(x)))
        for key, want in case.io.optional(rf"{name}vision_features_clip\d+").items():
            first = clip * int(re.search(r"(\d+)$", key).group(1))
            got, control = (
                np.asarray(features(done.params, frames[None, first : first + clip])[0])
                for frames in (done.frames, np.roll(done.frames, 1, axis=0))
            )
            assert_parity(got, want, atol=FEATURE_ATOL, control=control)
        assert list(done.tokens.shape) == entry["visual_token_shape"]
        want = case.io[f"{name}visual_tokens"]
        stored = slice(0, len(want))
        assert_parity(
            done.tokens[stored], want, atol=FEATURE_ATOL, control=done.wrong_tokens[stored]
        )
        for key, want in case.io.optional(rf"{name}visual_tokens_last\d+clips").items():
            last = slice(-int(re.search(r"last(\d+)clips", key).group(1)), None)
            assert_parity(
                done.tokens[last], want, atol=FEATURE_ATOL, control=done.wrong_tokens[last]
            )


@pytest.mark.golden("end_to_end")
def test_chat_recorded_prefill_equal(case: Case, runs: Runs) -> None:
    for entry, name, done in runs:
        want = case.io[f"{name}last_prompt_token_hidden_after_each_layer"]
        got, control = (
            np.stack([run.hidden_after_layer(layer)[-1] for layer in range(len(want))])
            for run in (done.run, done.control)
        )
        tolerance = LOGIT_NOISE_FACTOR * entry["logits_max_abs_diff_vs_float64"]
        assert_parity(got, want, atol=tolerance, control=control)
        lengths = case.io[f"{name}query_length_and_kv_after_prefill"].tolist()
        assert done.run.kv_length == lengths


@pytest.mark.golden("end_to_end")
def test_chat_recorded_answer_equal(case: Case, runs: Runs) -> None:
    for entry, name, done in runs:
        want = case.io[f"{name}generated_ids"]
        penalty = repetition_penalty(case)
        got = done.run.generate(len(want), penalty)
        wrong = done.control.generate(len(want), penalty)
        assert np.asarray(got.ids[0]).tolist() == want.tolist()
        logits, wrong_logits = np.asarray(got.logits[0]), np.asarray(wrong.logits[0])
        tolerance = LOGIT_NOISE_FACTOR * entry["logits_max_abs_diff_vs_float64"]
        for key, top in case.io.matching(rf"{name}step_top\d+_ids").items():
            assert_parity(
                np.take_along_axis(logits, top, axis=1),
                case.io[key.replace("_ids", "_logits")],
                atol=tolerance,
                control=np.take_along_axis(wrong_logits, top, axis=1),
            )
        for key, stored in case.io.optional(rf"{name}step_logits_every_\d+th").items():
            step = int(re.search(r"every_(\d+)th", key).group(1))
            assert_parity(
                logits[:, ::step], stored, atol=tolerance, control=wrong_logits[:, ::step]
            )
        if "argmax_of_raw_logits" in entry:
            assert np.argmax(logits, axis=1).tolist() == entry["argmax_of_raw_logits"]
        positions = np.array(done.run.kv_length)[None, :] - 1 + np.arange(len(want))[:, None]
        np.testing.assert_array_equal(positions, case.io[f"{name}position_id_last_token"])


def repetition_penalty(case: Case) -> float:
    """Reads generation_config.json beside the tokenizer, or the text of the recording."""
    folder = case.tokenizer_dir()
    if folder is not None and (folder / "generation_config.json").is_file():
        return float(
            json.loads((folder / "generation_config.json").read_text())["repetition_penalty"]
        )
    said = re.search(r"repetition_penalty ([\d.]+)", json.dumps(case.meta["runs"]))
    assert said is not None, "the case does not say which repetition penalty was active"
    return float(said.group(1))
