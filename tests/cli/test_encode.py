"""`xcomp encode`: whatever happens to it, the store ends as a clean run leaves it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from tests.data.mixture.example_mixture import write_mixture
from tests.tiny import TINY, tiny_params
from tests.write_video import write_video
from xcomp_jax.checkpoint import save_params
from xcomp_jax.cli.main import main
from xcomp_jax.token_store import TokenStore

FRAMES = 512
EXPERIMENT = """
from ml_collections import ConfigDict
import configs.smoke as smoke

def get_config():
    config = smoke.get_config()
    config.sampling = ConfigDict(dict(fps=8, min_frames=4, max_frames=16))
    return config
"""


@pytest.fixture(scope="module", name="video")
def video_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, 4, 4, 3), np.uint8)
    path = tmp_path_factory.mktemp("encode") / "clip.mp4"
    return write_video(path, frames.repeat(8, 1).repeat(8, 2), fps=8)


@pytest.fixture(scope="module", name="cache")
def cache_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


def command(video: Path, store: Path, cache: Path) -> list[str]:
    """Selection in shifted windows, so that clips begin at all places."""
    options = ["--frames", str(FRAMES), "--select", "256", "--repeats", "8"]
    return ["encode", str(video), "--store", str(store), "--cache-dir", str(cache), *options]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "xcomp_jax.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def contents(root: Path) -> dict[int, np.ndarray]:
    store = TokenStore(root)
    (video,) = store.contents()
    return store.video(video.key).read(range(FRAMES))


@pytest.fixture(scope="module", name="clean")
def clean_fixture(
    video: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, np.ndarray]:
    store = tmp_path_factory.mktemp("clean")
    assert main(command(video, store, cache)) == 0
    return contents(store)


def assert_same(root: Path, clean: dict[int, np.ndarray]) -> None:
    got = contents(root)
    assert got.keys() == clean.keys()
    for begin, tokens in clean.items():
        np.testing.assert_array_equal(got[begin], tokens)


def test_killed_and_run_again(
    video: Path,
    cache: Path,
    clean: dict[int, np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = start(command(video, tmp_path, cache))
    while not list(tmp_path.rglob("*.array_record")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = len(contents(tmp_path))
    assert 0 < before < len(clean), "killed amid the work"
    # One byte of what is there goes bad, too.
    shard = next(tmp_path.rglob("*.array_record"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert main(command(video, tmp_path, cache)) == 0
    assert_same(tmp_path, clean)
    made = int(capsys.readouterr().out.split(": ")[1].split(" ")[0])
    assert len(clean) - before < made <= len(clean), "the damaged ones and the missing ones"
    assert main(command(video, tmp_path, cache)) == 0
    assert "0 clips encoded" in capsys.readouterr().out


def test_two_at_once(
    video: Path, cache: Path, clean: dict[int, np.ndarray], tmp_path: Path
) -> None:
    processes = [start(command(video, tmp_path, cache)) for _ in range(2)]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert_same(tmp_path, clean)


def test_asking_from_the_store_decodes_nothing(
    video: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(video, tmp_path / "store", cache)[2:]
    arguments[arguments.index("--select") + 1] = "all"
    assert main(["encode", str(video), *arguments]) == 0
    page = tmp_path / "page.html"
    asked = ["ask", str(video), "What?", "Why?", "--max-new-tokens", "2", *arguments]
    assert main([*asked, "--evidence", str(page)]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 + 2
    assert "clips encoded" not in err
    assert "decode" not in err
    assert "<title>" in (tmp_path / "page-1.html").read_text()
    assert "Why?" in (tmp_path / "page-2.html").read_text()


def test_what_cannot_be_read_is_passed_over(
    video: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    arguments = command(video, tmp_path / "store", cache)
    arguments[arguments.index("--select") + 1] = "all"
    assert main([arguments[0], str(bad), *arguments[1:]]) == 1
    out, err = capsys.readouterr()
    assert str(bad) in err
    assert "Traceback" not in err
    assert f"{video}: 128 clips encoded" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either videos or --mixture FILE"),
        (
            ["--mixture", "m.yaml", "--distributed", "--process-id", "1"],
            "leave out one or the other",
        ),
        (
            ["--mixture", "m.yaml", "--process-id", "1"],
            "--process-id 1 is not below --num-processes 1",
        ),
        (["--mixture", "m.yaml", "--frames", "64"], "--frames is for questions"),
        (["--mixture", "m.yaml", "--select", "8"], "--select is for questions"),
        (["--mixture", "m.yaml", "--store-gib", "1"], "--store-gib is for questions"),
        (["film.mp4", "--process-id", "9"], "--process-id is an option of --mixture"),
        (["film.mp4", "--distributed"], "--distributed is an option of --mixture"),
        (["--mixture", "m.yaml", "--checkpoint", "c"], "--mixture needs --store DIR"),
        (
            ["--mixture", "m.yaml", "--checkpoint", "c", "--store", "s"],
            "m.scan.csv: no such table; write it with `xcomp scan m.yaml --out m.scan.csv`",
        ),
    ],
)
def test_refused_before_anything_is_loaded(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["encode", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_mixture_again_after_a_change_and_a_kill(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what changed or was cut off is done again; what questions use stays elsewhere."""
    mixture, store = tmp_path / "mixture.yaml", tmp_path / "features"
    write_mixture(tmp_path)
    images = {"json_path": "images.json", "data_root": "media"}
    folders = {"json_path": "folders.jsonl", "data_root": "media", "video_read_type": "img"}
    mixture.write_text(json.dumps({"datasets": [images, folders]}))
    experiment = tmp_path / "experiment.py"
    experiment.write_text(EXPERIMENT)
    save_params(tmp_path / "checkpoint", TINY, tiny_params(), source={})
    seen = ["--root", str(tmp_path), "--config", str(experiment)]
    model = ["--checkpoint", str(tmp_path / "checkpoint"), "--cache-dir", str(cache)]

    def encoded() -> int:
        assert main(["scan", str(mixture), *seen, "--max-bad", "1", "--quiet"]) == 0
        asked = ["encode", "--mixture", str(mixture), "--store", str(store), *seen, *model]
        assert main(asked) == 1, "one image is missing"
        return int(capsys.readouterr().out.rsplit(" files encoded", 1)[0].rsplit(" ", 1)[1])

    assert encoded() == 4 + 1
    assert encoded() == 0
    for file in (tmp_path / "media" / "folder").iterdir():
        Image.new("RGB", (33, 21), (0, 0, 99)).save(file)
    assert encoded() == 1

    index = store / "index-0.csv"
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join(line for line in lines if b"i1.png" not in line)[:-70])
    assert encoded() == 2
    assert encoded() == 0

    film = ["encode", str(tmp_path / "media" / "v0.mp4"), "--cache-dir", str(cache)]
    assert main([*film, "--store", str(store)]) == 2
    assert "holds features of a data mixture" in capsys.readouterr().err
    (store / "features.json").unlink()
    assert main(["encode", "--mixture", str(mixture), "--store", str(store), *seen, *model]) == 2
    assert "use another --store for features" in capsys.readouterr().err


def test_chat_from_a_pipe(video: Path, cache: Path) -> None:
    arguments = ["chat", str(video), "--frames", "16", "--cache-dir", str(cache)]
    process = subprocess.run(
        [sys.executable, "-m", "xcomp_jax.cli.main", *arguments, "--max-new-tokens", "2"],
        input="What?\n<image>\nAnd then?\n/new\nWhat?\n",
        capture_output=True,
        text=True,
        check=True,
    )
    lines = process.stdout.splitlines()
    assert len(lines) == 3
    assert lines[0] == lines[2], "/new forgets what was said"
    assert "must not contain '<image>'" in process.stderr


def test_chat_while_it_is_written(video: Path, cache: Path) -> None:
    """A file that grows is asked about as far as it has come; what is no video says so."""
    mkv = video.with_suffix(".mkv")
    copy = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", "-i", str(video)]
    subprocess.run([*copy, "-c", "copy", str(mkv)], check=True)
    answered = {}
    for path in (mkv, Path(__file__)):
        arguments = ["chat", str(path), "--follow", "2", "--cache-dir", str(cache)]
        answered[path] = subprocess.run(
            [sys.executable, "-m", "xcomp_jax.cli.main", *arguments, "--max-new-tokens", "2"],
            input="What?\nWhy?\n",
            capture_output=True,
            text=True,
            check=False,
        )
    assert answered[mkv].returncode == 0, answered[mkv].stderr
    assert len(answered[mkv].stdout.splitlines()) == 2
    assert answered[Path(__file__)].returncode == 2
    assert "readable from its beginning" in answered[Path(__file__)].stderr
