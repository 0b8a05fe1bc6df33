"""Tests that `xcomp encode` completes a store after kills, damage and concurrent runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
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
from xcomp_jax.cli.processes import claimed_share
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


SELECTED = ("--select", "256", "--repeats", "8")
"""Selection whose shifted windows need a clip at every frame."""


def encode_arguments(
    video: Path, store: Path, cache: Path, selection: Sequence[str] = SELECTED
) -> list[str]:
    options = ["--frames", str(FRAMES), *selection]
    return ["encode", str(video), "--store", str(store), "--cache-dir", str(cache), *options]


def start_process(arguments: list[str]) -> subprocess.Popen[str]:
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
    assert main(encode_arguments(video, store, cache)) == 0
    return contents(store)


def assert_same(root: Path, clean: dict[int, np.ndarray]) -> None:
    stored = contents(root)
    assert stored.keys() == clean.keys()
    for first, tokens in clean.items():
        np.testing.assert_array_equal(stored[first], tokens)


def test_encode_after_kill_resumes(
    video: Path,
    cache: Path,
    clean: dict[int, np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = start_process(encode_arguments(video, tmp_path, cache))
    while not list(tmp_path.rglob("*.array_record")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = len(contents(tmp_path))
    assert 0 < before < len(clean), "killed too early or too late"
    # Damage one byte of a stored clip.
    shard = next(tmp_path.rglob("*.array_record"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert main(encode_arguments(video, tmp_path, cache)) == 0
    assert_same(tmp_path, clean)
    num_encoded = int(capsys.readouterr().out.split(": ")[1].split(" ")[0])
    assert len(clean) - before < num_encoded <= len(clean)
    assert main(encode_arguments(video, tmp_path, cache)) == 0
    assert "0 clips encoded" in capsys.readouterr().out


def test_encode_two_processes_share_store(
    video: Path, cache: Path, clean: dict[int, np.ndarray], tmp_path: Path
) -> None:
    processes = [start_process(encode_arguments(video, tmp_path, cache)) for _ in range(2)]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert_same(tmp_path, clean)


def test_ask_with_filled_store_decodes_nothing(
    video: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = encode_arguments(video, tmp_path / "store", cache, ["--select", "all"])[2:]
    assert main(["encode", str(video), *arguments]) == 0
    page = tmp_path / "page.html"
    ask = ["ask", str(video), "What?", "Why?", "--max-new-tokens", "2", *arguments]
    assert main([*ask, "--evidence", str(page), "--verbose"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 + 2
    assert "clips reused" in err
    assert "clips encoded" not in err
    assert "decode" not in err
    assert "<title>" in (tmp_path / "page-1.html").read_text()
    assert "Why?" in (tmp_path / "page-2.html").read_text()


def test_encode_unreadable_video_is_skipped(
    video: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unreadable = tmp_path / "bad.mp4"
    unreadable.write_text("no video")
    arguments = encode_arguments(video, tmp_path / "store", cache, ["--select", "all"])
    assert main([arguments[0], str(unreadable), *arguments[1:]]) == 1
    out, err = capsys.readouterr()
    assert str(unreadable) in err
    assert "Traceback" not in err
    assert f"{video}: 128 clips encoded" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to encode; pass VIDEO, or --mixture FILE"),
        (["film.mp4", "--mixture", "m.yaml"], "pass either VIDEO or --mixture FILE, not both"),
        (["--mixture", "n.yaml"], "--mixture n.yaml: no such file; did you mean m.yaml?"),
        (["film.mp4", "--end", "0"], "--end 0 must lie after --start 0"),
        (
            ["--mixture", "m.yaml", "--distributed", "--process-id", "1"],
            "remove --distributed or these",
        ),
        (
            ["--mixture", "m.yaml", "--process-id", "1"],
            "--process-id 1 is not in [0, 1), with --num-processes 1",
        ),
        (["--mixture", "m.yaml", "--frames", "64"], "--frames applies to videos only"),
        (["--mixture", "m.yaml", "--select", "8"], "--select applies to videos only"),
        (["--mixture", "m.yaml", "--store-gib", "1"], "--store-gib applies to videos only"),
        (["film.mp4", "--process-id", "9"], "--process-id applies to --mixture FILE only"),
        (["film.mp4", "--distributed"], "--distributed applies to --mixture FILE only"),
        (["--mixture", "m.yaml", "--checkpoint", "c"], "--mixture needs --store DIR"),
        (
            ["--mixture", "m.yaml", "--checkpoint", "c", "--store", "s"],
            "m.scan.csv does not exist; write it with `xcomp scan m.yaml --out m.scan.csv`",
        ),
    ],
)
def test_encode_invalid_options_raise_before_loading(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.yaml").touch()
    Path("c").mkdir()
    assert main(["encode", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_encode_mixture_after_change_and_kill_resumes(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Encodes only changed and missing files; rejects a store of another kind."""
    mixture, store = tmp_path / "mixture.yaml", tmp_path / "features"
    write_mixture(tmp_path)
    images = {"json_path": "images.json", "data_root": "media"}
    folders = {"json_path": "folders.jsonl", "data_root": "media", "video_read_type": "img"}
    mixture.write_text(json.dumps({"datasets": [images, folders]}))
    experiment = tmp_path / "experiment.py"
    experiment.write_text(EXPERIMENT)
    save_params(tmp_path / "checkpoint", TINY, tiny_params(), source={})
    settings = ["--root", str(tmp_path), "--config", str(experiment)]
    model = ["--checkpoint", str(tmp_path / "checkpoint"), "--cache-dir", str(cache)]

    def num_encoded() -> int:
        assert main(["scan", str(mixture), *settings, "--max-bad", "1", "--quiet"]) == 0
        encode = ["encode", "--mixture", str(mixture), "--store", str(store), *settings, *model]
        assert main(encode) == 1, "one image is missing"
        return int(capsys.readouterr().out.rsplit(" files encoded", 1)[0].rsplit(" ", 1)[1])

    assert num_encoded() == 4 + 1
    assert num_encoded() == 0
    for file in (tmp_path / "media" / "folder").iterdir():
        Image.new("RGB", (33, 21), (0, 0, 99)).save(file)
    assert num_encoded() == 1

    index = store / "index-0.csv"
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join(line for line in lines if b"i1.png" not in line)[:-70])
    assert num_encoded() == 2
    assert num_encoded() == 0

    encode = ["encode", "--mixture", str(mixture), "--store", str(store), *settings, *model]
    with claimed_share(store, 0, 1):
        assert main(encode) == 2
    assert "another running process encodes into" in capsys.readouterr().err

    film = ["encode", str(tmp_path / "media" / "v0.mp4"), "--cache-dir", str(cache)]
    assert main([*film, "--store", str(store)]) == 2
    assert "holds features of a data mixture" in capsys.readouterr().err
    (store / "features.json").unlink()
    assert (
        main(["encode", "--mixture", str(mixture), "--store", str(store), *settings, *model]) == 2
    )
    assert "use another --store for features" in capsys.readouterr().err


def test_chat_pipe_holds_questions_and_commands(video: Path, cache: Path) -> None:
    arguments = ["chat", str(video), "--frames", "16", "--cache-dir", str(cache)]
    process = subprocess.run(
        [sys.executable, "-m", "xcomp_jax.cli.main", *arguments, "--max-new-tokens", "2"],
        input=b"What?\ncaf\xe9?\n/fly\n/help\n//And then?\n/new\nWhat?\n/exit\nNever?\n",
        capture_output=True,
        check=True,
    )
    lines, messages = process.stdout.decode().splitlines(), process.stderr.decode()
    assert len(lines) == 3
    assert lines[0] == lines[2], "/new starts without history"
    assert "contains bytes that are not UTF-8, after 'caf'" in messages
    assert "/fly is not a command; use /new, /help, /exit or /quit" in messages
    assert "/new     start another conversation" in messages
    assert "encoded 16 frames of " in messages
    assert "wall" not in messages, "costs need --verbose"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.mkv", "--follow"], "gone.mkv: no such file or folder"),
        ([".", "--follow"], ".: is a folder. Follow a file or a named pipe."),
        (["gone.mkv", "--follow", "--frames", "8"], "--frames has no effect with --follow"),
        (["gone.mkv"], "gone.mkv: no such file or folder"),
    ],
)
def test_chat_missing_video_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_chat_follow_growing_file(video: Path, cache: Path) -> None:
    """Answers about a followed file; exits with 2 for a file that is no video."""
    mkv = video.with_suffix(".mkv")
    copy = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", "-i", str(video)]
    subprocess.run([*copy, "-c", "copy", str(mkv)], check=True)
    results = {}
    for path in (mkv, Path(__file__)):
        arguments = ["chat", str(path), "--follow", "2", "--cache-dir", str(cache)]
        results[path] = subprocess.run(
            [sys.executable, "-m", "xcomp_jax.cli.main", *arguments, "--max-new-tokens", "2"],
            input="What?\nWhy?\n",
            capture_output=True,
            text=True,
            check=False,
        )
    assert results[mkv].returncode == 0, results[mkv].stderr
    assert len(results[mkv].stdout.splitlines()) == 2
    assert results[Path(__file__)].returncode == 2
    assert "readable from its beginning" in results[Path(__file__)].stderr
