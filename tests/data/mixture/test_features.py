"""Stored features: equal to the encoder's output, complete, and tied to one encoder."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

from tests.data.batches import assert_same
from tests.data.mixture.example_mixture import CLIP, SAMPLING, open_example
from tests.tiny import TINY, tiny_params
from xcomp_jax.checkpoint import save_params
from xcomp_jax.config import ConfigError, MixtureConfig, ProjectorConfig, StageConfig
from xcomp_jax.data.mixture.features import FeatureStore, create_features
from xcomp_jax.data.mixture.media import Media, plan_media, probe_media
from xcomp_jax.data.mixture.samples import load_mixture
from xcomp_jax.data.mixture.scan_table import Table
from xcomp_jax.data.mixture.skipped import BadSamplesError
from xcomp_jax.data.pipeline import Batch, train_batches
from xcomp_jax.engine.engine import Engine
from xcomp_jax.inference.encode_mixture import encode_media, open_encoder
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.token_store import TokenStoreError
from xcomp_jax.training.encoding import visual_tokens


@pytest.fixture(scope="module")
def params() -> Params:
    return tiny_params()


@pytest.fixture(scope="module")
def store_folder(
    config: MixtureConfig, table: Table, params: Params, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Features of the example mixture, encoded by two processes, which both run twice."""
    tmp_path = tmp_path_factory.mktemp("features")
    save_params(tmp_path / "checkpoint", TINY, params, source={})
    samples, folder = load_mixture(config).samples, tmp_path / "store"
    counts, unusable = [], []
    for process in (0, 1, 0, 1):
        store, encoder, model = open_encoder(tmp_path / "checkpoint", folder)
        count, problems = encode_media(
            samples,
            table,
            store,
            encoder,
            root=Path(config.root),
            sampling=SAMPLING,
            config=model,
            process_index=process,
            process_count=2,
            workers=2,
            progress=False,
        )
        counts.append(count)
        unusable += [media.path for media, _ in problems]
    assert min(counts[:2]) > 0
    assert sum(counts[:2]) == 10
    assert counts[2:] == [0, 0]
    assert sorted(unusable[:3]) == ["media/broken.mp4", "media/none.png", "media/short.mp4"]
    return folder


def test_train_batches_features_equal_the_encoder_output(
    config: MixtureConfig, table: Table, params: Params, store_folder: Path
) -> None:
    """A training step turns stored features into the visual tokens that inference computes."""
    decoded_batches = train_batches(open_example(config, table), batch_size=2, seed=0)
    features = FeatureStore(store_folder, TINY)
    stored_batches = train_batches(
        open_example(config, table, features=features), batch_size=2, seed=0
    )
    stage = StageConfig(name="sct", num_steps=1, learning_rate=1e-3)
    embed = jax.jit(functools.partial(visual_tokens, XComp(TINY), stage, params))
    checked_kinds = set()
    for decoded, stored in itertools.islice(zip(decoded_batches, stored_batches, strict=False), 5):
        is_image = decoded["frames"].shape[1] == 1
        if is_image in checked_kinds:
            continue
        checked_kinds.add(is_image)
        tokens = np.asarray(embed(stored))
        np.testing.assert_allclose(tokens, embed(decoded), atol=1e-5)
        assert_tokens_of_inference(tokens, decoded, params, clip=1 if is_image else CLIP)
        rows = TINY.projector.tokens_per_frame
        for slot, count in enumerate(decoded["num_frames"]):
            assert (stored["merged_features"][slot, count * rows :] == 0).all()
        del stored["merged_features"], decoded["frames"]
        assert_same(stored, decoded)
    assert checked_kinds == {True, False}


def assert_tokens_of_inference(
    tokens: np.ndarray, decoded: Batch, params: Params, *, clip: int
) -> None:
    """Compares `tokens` with inference on the decoded frames; reversed tokens must differ."""
    for slot, count in enumerate(decoded["num_frames"]):
        clips = decoded["frames"][slot, :count].reshape(-1, clip, *decoded["frames"].shape[2:])
        num_rows = count * TINY.projector.tokens_per_frame
        expected = Engine(TINY, params).encoder.encode(clips).reshape(num_rows, -1)
        np.testing.assert_allclose(tokens[slot, :num_rows], expected, atol=1e-5)
        assert np.abs(tokens[slot, :num_rows] - expected[::-1]).max() > 1e-3


def test_feature_store_other_encoder_is_refused(store_folder: Path) -> None:
    other = dataclasses.replace(TINY, projector=ProjectorConfig(tokens_per_frame=2))
    with pytest.raises(ConfigError, match="features of another encoder"):
        FeatureStore(store_folder, other)


def test_open_mixture_missing_features_are_unusable_samples(
    config: MixtureConfig, table: Table, store_folder: Path
) -> None:
    index = store_folder / "index-0.csv"
    hidden = index.rename(index.with_suffix(".hidden"))
    try:
        with pytest.raises(BadSamplesError, match="run `xcomp encode --mixture`"):
            open_example(config, table, features=FeatureStore(store_folder, TINY))
    finally:
        hidden.rename(index)


def test_feature_store_bfloat16_round_trip_and_missing_clips(
    config: MixtureConfig, tmp_path: Path
) -> None:
    model = dataclasses.replace(TINY, dtype="bfloat16")
    features = create_features(tmp_path, model, "0" * 64, "bfloat16")
    media = Media(path="media/i0.png", kind="image")
    path = Path(config.root) / media.path
    size = path.stat().st_size
    root = Path(config.root)
    plan = plan_media(media, probe_media(media, root), root, sampling=SAMPLING, clip_frames=4)
    clip_cache = features.clip_cache(media, path, plan)
    tokens = np.arange(64, dtype=np.float32).reshape(4, 16).astype(ml_dtypes.bfloat16)
    clip_cache.write({0: tokens})
    features.register(media, plan, size, clip_cache, process=0)
    reopened = FeatureStore(tmp_path, model)
    stored = reopened.read(media, plan, size)
    assert stored.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(stored, tokens)
    with pytest.raises(TokenStoreError, match="not in"):
        reopened.read(media, plan, size + 1)  # the file was replaced
    next(tmp_path.rglob("*.array_record")).unlink()
    with pytest.raises(TokenStoreError, match="1 of 1 clips are missing"):
        reopened.read(media, plan, size)
