"""From a yaml file and real files to batches: scanned, bucketed, shared, resumed, bad ones out."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest

from tests.data.handmade_mixture import CLIP, IMAGE_SIZE, SAMPLING, conversation, write_mixture
from tests.tiny import TINY, tiny_params
from xcomp_jax.checkpoint import save_params
from xcomp_jax.config import (
    ConfigError,
    DataConfig,
    ExperimentConfig,
    MixtureConfig,
    ProjectorConfig,
    StageConfig,
)
from xcomp_jax.data.mixture.dataset import MixtureDataset, open_mixture
from xcomp_jax.data.mixture.experiment import open_training_mixture, scan_training_mixture
from xcomp_jax.data.mixture.features import FeatureStore, create_features
from xcomp_jax.data.mixture.media import Media, plan_media, probe_media
from xcomp_jax.data.mixture.reader import MixtureReader
from xcomp_jax.data.mixture.samples import load_mixture
from xcomp_jax.data.mixture.scan import Table, scan
from xcomp_jax.data.mixture.skipped import BadSamplesError, SkippedLog
from xcomp_jax.data.pipeline import Batch, train_batches
from xcomp_jax.engine.programs import encode_some
from xcomp_jax.inference.encode_mixture import encode_media, open_encoder
from xcomp_jax.models.xcomp import XComp
from xcomp_jax.text.prompts import IGNORE
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.token_store import TokenStoreError
from xcomp_jax.training.encoding import visual_tokens
from xcomp_jax.video.decode import read_frames

TOKENIZER = load_tokenizer(None)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> MixtureConfig:
    return write_mixture(tmp_path_factory.mktemp("mixture"))


@pytest.fixture(scope="module")
def table(config: MixtureConfig) -> Table:
    samples = load_mixture(config).samples
    path = Path(config.root) / "scan.csv"
    return scan(samples, Path(config.root), path, workers=2, progress=False)


def opened(
    config: MixtureConfig,
    table: Table,
    *,
    features: FeatureStore | None = None,
    skipped: Path | None = None,
    prompt_as_asked: bool = False,
) -> MixtureDataset:
    reader = MixtureReader(
        config=config,
        sampling=SAMPLING,
        image_size=IMAGE_SIZE,
        clip_frames=CLIP,
        tokenizer=TOKENIZER,
        max_text_tokens=192,
        prompt_as_asked=prompt_as_asked,
        table=table,
        features=features,
    )
    return open_mixture(load_mixture(config), reader, skipped_file=skipped, progress=False)


def assert_same(actual: Batch, expected: Batch) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype, name
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


def test_a_batch_holds_what_its_samples_say(config: MixtureConfig, table: Table) -> None:
    dataset = opened(config, table)
    assert len(dataset) == 10, "thirteen samples, three of which cannot be used"
    batches = train_batches(dataset, batch_size=2, seed=0)
    seen: Counter[int] = Counter()
    for _ in range(5):
        batch = next(batches)
        frames, suffix = batch["frames"].shape[1], batch["suffix_ids"].shape[1]
        assert frames in (1, *dataset.frame_limits)
        assert suffix in dataset.suffix_limits
        for at, index in enumerate(batch["index"]):
            seen[int(index)] += 1
            media, count = dataset.samples[index].media, int(batch["num_frames"][at])
            assert count == dataset.frames[index]
            assert (batch["frames"][at, count:] == 0).all()
            ids = batch["suffix_ids"][at, : batch["suffix_len"][at]]
            text = TOKENIZER.decode(ids)
            assert f"{count} frames are uniformly sampled" in text or media.kind == "image"
            assert "lasts for 1.00 seconds" in text or media.start is None
            first = {"video": None, "gif": None, "img": (0, 0, 0)}.get(media.kind)
            if first is not None:
                np.testing.assert_array_equal(batch["frames"][at, 0, 0, 0], first)
            if media.path.endswith("v1.mp4") and media.start is not None:
                expected = list(
                    read_frames(Path(config.root) / media.path, range(4, 12), size=IMAGE_SIZE)
                )
                np.testing.assert_array_equal(batch["frames"][at, :count], expected)
        assert (batch["suffix_labels"] != IGNORE).any(axis=1).all()
    assert set(seen.values()) == {1}
    assert len(seen) == 10
    kinds = [dataset.samples[i].media.kind for i in seen]
    assert Counter(kinds) == {"video": 4, "image": 4, "img": 1, "gif": 1}


def test_any_number_of_processes_makes_the_same_batches_and_goes_on_anywhere(
    config: MixtureConfig, table: Table
) -> None:
    dataset = opened(config, table)
    alone = train_batches(dataset, batch_size=2, seed=4)
    states, expected = [], []
    for _ in range(9):  # almost two epochs
        states.append(json.dumps(alone.get_state()))
        expected.append(next(alone))
    parts = [
        train_batches(opened(config, table), batch_size=2, seed=4, process_index=i, process_count=2)
        for i in range(2)
    ]
    for batch in expected:
        halves = [next(part) for part in parts]
        joined = {name: np.concatenate([half[name] for half in halves]) for name in batch}
        assert_same(joined, batch)
    resumed = train_batches(dataset, batch_size=2, seed=4)
    next(resumed)
    resumed.set_state(json.loads(states[6]))
    assert_same(next(resumed), expected[6])
    later = train_batches(dataset, batch_size=2, seed=4, examples_seen=2 * 7)
    assert_same(next(later), expected[7])
    other = train_batches(dataset, batch_size=2, seed=5)
    order = [next(other)["index"].tolist() for _ in range(5)]
    assert order != [batch["index"].tolist() for batch in expected[:5]]


def test_a_file_that_breaks_later_takes_no_other_along(
    config: MixtureConfig, table: Table, tmp_path: Path
) -> None:
    """Every row but the broken one stays as it was, in place and in content."""
    root = tmp_path / "copy"
    shutil.copytree(config.root, root)
    (root / "media" / "v0.mp4").write_bytes(b"no video")
    log = tmp_path / "skipped.jsonl"
    broken = dataclasses.replace(config, root=str(root), path=str(root / "mixture.yaml"))
    dataset = opened(broken, table, skipped=log)
    known = [json.loads(line)["path"] for line in log.read_text().splitlines()]
    assert sorted(known) == ["media/broken.mp4", "media/none.png", "media/short.mp4"]
    good, bad = (
        list(itertools.islice(train_batches(one, batch_size=2, seed=1), 5))
        for one in (opened(config, table), dataset)
    )
    skipped = 0
    for with_all, with_one_less in zip(good, bad, strict=True):
        weight = with_one_less["example_weight"]
        for name in with_all:
            kept = weight == 1
            np.testing.assert_array_equal(with_one_less[name][kept], with_all[name][kept])
        for at in np.flatnonzero(weight == 0):
            skipped += 1
            assert dataset.samples[with_one_less["index"][at]].media.path == "media/v0.mp4"
            assert (with_one_less["frames"][at] == 0).all()
            assert (with_one_less["suffix_labels"][at] == IGNORE).all()
            assert with_one_less["num_frames"][at] == with_all["num_frames"][at]
    assert skipped == 1
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["path"] == "media/v0.mp4"
    assert "truncated, damaged, or not a video" in last["reason"]


def test_too_many_bad_samples_stop_a_run(
    config: MixtureConfig, table: Table, tmp_path: Path
) -> None:
    with pytest.raises(BadSamplesError, match=r"3 of 13 samples.*max_bad=0\.2 stops"):
        opened(dataclasses.replace(config, max_bad=0.2), table)
    whole = {name: facts for name, facts in table.items() if not facts.reason}
    with pytest.raises(BadSamplesError, match="not in the table of the scan"):
        opened(config, dict(itertools.islice(whole.items(), 3)))
    root = tmp_path / "copy"
    shutil.copytree(config.root, root)
    dataset = opened(dataclasses.replace(config, root=str(root)), table)
    # Of the first two hundred one may be bad.
    dataset = dataclasses.replace(dataset, skipped=SkippedLog(None, 0.005))
    shutil.rmtree(root / "media")
    with pytest.raises(BadSamplesError, match=r"(\d) of \1 samples.*no such file"):
        for _ in train_batches(dataset, batch_size=1, seed=0):
            pass


@pytest.mark.parametrize("prompt_as_asked", [False, True])
def test_turns_that_are_none_make_a_bad_sample(
    config: MixtureConfig, table: Table, tmp_path: Path, prompt_as_asked: bool
) -> None:
    """Recorded once with the reason, whatever characters their names hold; the good one is left."""
    asked, told = conversation("What?")
    wrong: dict[str, Any] = {
        "is of role \\['human'\\]": {"from": ["human"], "value": asked["value"]},
        'has no text under "value"': {"from": "human", "value": None},
        "no text": {"from": "human", "value": 5},
        "surrogates not allowed": {"from": "human", "value": "<image>\ud800"},
    }
    rows = [{"id": "good", "video": "media/v0.mp4", "conversations": [asked, told]}] + [
        {"id": f"{i}\u2028\ud800", "video": "media/v0.mp4", "conversations": [turn, told]}
        for i, turn in enumerate(wrong.values())
    ]
    (tmp_path / "set.json").write_text(json.dumps(rows))
    path, log = tmp_path / "mixture.yaml", tmp_path / "skipped.jsonl"
    path.write_text(f"datasets: [{{json_path: {tmp_path / 'set.json'}}}]")
    mixture = dataclasses.replace(config, path=str(path), max_bad=1)
    for _ in range(2):  # the second time after a restart
        dataset = opened(mixture, table, skipped=log, prompt_as_asked=prompt_as_asked)
        assert [sample.id for sample in dataset.samples] == ["good"]
    recorded = [json.loads(line) for line in log.read_text().strip().split("\n")]
    assert len(recorded) == len(wrong)
    reasons = {row["id"]: row["reason"] for row in recorded}
    for row, reason in zip(rows[1:], wrong, strict=True):
        assert re.search(reason, reasons[str(row["id"])])


def test_a_run_goes_on_only_with_the_samples_it_began_with(
    config: MixtureConfig, tmp_path: Path
) -> None:
    root, workdir = tmp_path / "copy", tmp_path / "run"
    shutil.copytree(config.root, root)
    stage = StageConfig(name="sct", num_steps=1, learning_rate=1e-3)
    mixture = dataclasses.replace(config, root=str(root), max_bad=0.5)
    experiment = ExperimentConfig(
        name="mixture",
        model=TINY,
        stages=(stage,),
        data=DataConfig(source="mixture", mixture=mixture),
        sampling=SAMPLING,
        init_from="elsewhere",
    )

    def opened_by(process: int) -> MixtureDataset:
        return open_training_mixture(
            experiment, workdir, TOKENIZER, process_index=process, progress=False
        )

    with pytest.raises(ConfigError, match="no such table"):
        opened_by(0)
    scan_training_mixture(experiment, workdir, progress=False)
    assert len(opened_by(0)) == len(opened_by(1)) == 10
    assert len((workdir / "skipped-1.jsonl").read_text().splitlines()) == 3
    images = root / "images.json"
    written = images.read_text()
    images.write_text(written.replace("red", "blue"))
    with pytest.raises(ConfigError, match=r"10 usable samples, now there are 10, .* other texts"):
        opened_by(1)
    images.write_text(written)
    (root / "media" / "i1.png").unlink()
    assert len(opened_by(1)) == 10, "files are looked at by the scan alone"
    scan_training_mixture(experiment, workdir, progress=False)
    with pytest.raises(ConfigError, match="began with 10 usable samples, now there are 9"):
        opened_by(1)
    learning = dataclasses.replace(stage, trainable=("vision", "llm"))
    experiment = dataclasses.replace(
        experiment,
        stages=(learning,),
        data=DataConfig(source="mixture", mixture=dataclasses.replace(mixture, features="x")),
    )
    with pytest.raises(ConfigError, match=r"stages \['sct'\] train it"):
        opened_by(0)


def test_features_from_the_store_are_what_the_projector_gets(
    config: MixtureConfig, table: Table, tmp_path: Path
) -> None:
    """In a training step they become the visual tokens that inference makes of the frames."""
    params = tiny_params()
    save_params(tmp_path / "checkpoint", TINY, params, source={})
    samples, folder = load_mixture(config).samples, tmp_path / "store"
    made, bad = [], []
    for part in (0, 1, 0, 1):  # two processes share the work; then both start again
        store, encoder, model = open_encoder(tmp_path / "checkpoint", folder)
        count, problems = encode_media(
            samples,
            table,
            store,
            encoder,
            root=Path(config.root),
            sampling=SAMPLING,
            config=model,
            process_index=part,
            process_count=2,
            workers=2,
            progress=False,
        )
        made.append(count)
        bad += [media.path for media, _ in problems]
    assert min(made[:2]) > 0
    assert sum(made[:2]) == 10
    assert made[2:] == [0, 0]
    assert sorted(bad[:3]) == ["media/broken.mp4", "media/none.png", "media/short.mp4"]

    seen = opened(config, table, features=FeatureStore(folder, TINY))
    stage = StageConfig(name="sct", num_steps=1, learning_rate=1e-3)
    embed = jax.jit(functools.partial(visual_tokens, XComp(TINY), stage, params))
    checked = set()
    for decoded, stored in zip(
        itertools.islice(train_batches(opened(config, table), batch_size=2, seed=0), 5),
        train_batches(seen, batch_size=2, seed=0),
        strict=False,
    ):
        image = decoded["frames"].shape[1] == 1
        if image in checked:
            continue
        checked.add(image)
        tokens = np.asarray(embed(stored))
        np.testing.assert_allclose(tokens, embed(decoded), atol=1e-5)
        rows = TINY.projector.tokens_per_frame
        for at, count in enumerate(decoded["num_frames"]):
            clip = 1 if image else CLIP
            clips = decoded["frames"][at, :count].reshape(-1, clip, *decoded["frames"].shape[2:])
            expected = encode_some(XComp(TINY), params, clips).reshape(count * rows, -1)
            np.testing.assert_allclose(tokens[at, : count * rows], expected, atol=1e-5)
            assert np.abs(tokens[at, : count * rows] - expected[::-1]).max() > 1e-3
            assert (stored["merged_features"][at, count * rows :] == 0).all()
        del stored["merged_features"], decoded["frames"]
        assert_same(stored, decoded)
    assert checked == {True, False}

    # Nothing is made up for what the store does not have, nor for another encoder.
    (folder / "index-0.csv").unlink()
    with pytest.raises(BadSamplesError, match="run `xcomp encode --mixture`"):
        opened(config, table, features=FeatureStore(folder, TINY))
    other = dataclasses.replace(TINY, projector=ProjectorConfig(tokens_per_frame=2))
    with pytest.raises(ConfigError, match="features of another encoder"):
        FeatureStore(folder, other)


def test_features_in_bfloat16_stay_so(config: MixtureConfig, tmp_path: Path) -> None:
    model = dataclasses.replace(TINY, dtype="bfloat16")
    features = create_features(tmp_path, model, "0" * 64, "bfloat16")
    media = Media(path="media/i0.png", kind="image")
    path = Path(config.root) / media.path
    size = path.stat().st_size
    plan = plan_media(
        media, probe_media(media, Path(config.root)), sampling=SAMPLING, clip_frames=4
    )
    shelf = features.shelf(media, path, plan)
    tokens = np.arange(64, dtype=np.float32).reshape(4, 16).astype(ml_dtypes.bfloat16)
    shelf.write({0: tokens})
    features.enter(media, plan, size, shelf, process=0)
    again = FeatureStore(tmp_path, model)
    got = again.read(media, plan, size)
    assert got.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(got, tokens)
    with pytest.raises(TokenStoreError, match="not in"):
        again.read(media, plan, size + 1)  # a file that was replaced since
    next(tmp_path.rglob("*.array_record")).unlink()
    with pytest.raises(TokenStoreError, match="1 of 1 clips are missing"):
        again.read(media, plan, size)
