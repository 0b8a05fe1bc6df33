"""Tests of the wheel: its files, and its commands in a fresh environment outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
LINKED = ("configs", "convert", "launch")


def run(command: list[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command in `folder` without the variables that point to the checkout."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module", name="tracked")
def tracked_fixture() -> list[Path]:
    """Tracked files and links, relative to the repository."""
    listing = run(["git", "ls-files", "-z"], REPO)
    if listing.returncode:
        pytest.skip(f"not a git checkout: {listing.stderr.strip()}")
    return [Path(name) for name in listing.stdout.split("\0") if name and (REPO / name).exists()]


@pytest.fixture(scope="module", name="wheel")
def wheel_fixture(tracked: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a clean copy of all tracked files, built without network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for path in tracked:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / path, source / path, follow_symlinks=False)
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    build = run([sys.executable, "-c", code, folder], source)
    assert build.returncode == 0, build.stderr[-3000:]
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_holds_the_package_and_nothing_else(wheel: Path, tracked: list[Path]) -> None:
    modules = {path for path in tracked if path.suffix == ".py"}
    # Data files as well: block sizes, the demo, the page of the server.
    own = [path for path in tracked if path.parts[0] == "xcomp_jax"]
    expected = {str(path) for path in own if not (REPO / path).is_symlink()}
    expected |= {f"xcomp_jax/{path}" for path in modules if path.parts[0] in LINKED}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        linked = archive.getinfo("xcomp_jax/configs/smoke.py")
        assert archive.read(linked) == (REPO / "configs" / "smoke.py").read_bytes()
    assert names == expected


def test_wheel_declares_command_and_extras(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
        (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        assert "xcomp = xcomp_jax.cli.main:main" in archive.read(entry_points).decode()
        lines = archive.read(metadata).decode().splitlines()
    extras = {line.removeprefix("Provides-Extra: ") for line in lines if "Provides-Extra" in line}
    assert extras == {"cuda", "evaluation", "serve", "tensorboard", "test", "tpu", "wandb"}


@pytest.fixture(scope="module", name="environment")
def environment_fixture(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a new environment with the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    install = run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", wheel], folder)
    assert install.returncode == 0, install.stderr[-3000:]
    return folder / "bin"


@pytest.mark.slow
def test_installed_commands_run_outside_checkout(environment: Path, tmp_path: Path) -> None:
    for words in ([], ["tune"], ["convert"], ["preflight"], ["bench"], ["ask"]):
        command = run([environment / "xcomp", *words, "--help"], tmp_path)
        assert command.returncode == 0, command.stderr
    train = ["--config", "smoke", "--workdir", "smoke", "--quiet"]
    sizes = ["data.num_train_videos=16", "data.num_eval_videos=8"]
    sizes += [f"stages.{i}.num_steps=1" for i in range(2)]
    overrides = [word for size in sizes for word in ("--set", size)]
    tune = run([environment / "xcomp", "tune", *train, *overrides], tmp_path)
    assert tune.returncode == 0, tune.stderr[-3000:]
    assert (tmp_path / "smoke" / "report.md").is_file()


@pytest.mark.slow
def test_installed_package_adds_one_name(environment: Path, tmp_path: Path) -> None:
    python = environment / "python"
    for name in (*LINKED, "tests"):
        assert "No module named" in run([python, "-c", f"import {name}"], tmp_path).stderr
    code = "import sys, xcomp_jax; assert 'jax' not in sys.modules; import xcomp_jax.configs.smoke"
    imported = run([python, "-c", code], tmp_path)
    assert imported.returncode == 0, imported.stderr


NO_NETWORK = """
import pathlib, socket
connect = socket.socket.connect
def local_connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
        pathlib.Path({log!r}).open("a").write(f"{{address}}\\n")
        raise OSError(101, "Network is unreachable")
    return connect(self, address)
socket.socket.connect = local_connect
"""


@pytest.mark.slow
def test_installed_demo_answers_offline_in_a_minute(
    wheel: Path, environment: Path, tmp_path: Path
) -> None:
    python, log = environment / "python", tmp_path / "connections"
    install = run([python, "-m", "pip", "install", "--quiet", f"{wheel}[serve]"], tmp_path)
    assert install.returncode == 0, install.stderr[-3000:]
    folder = run([python, "-c", "import site; print(site.getsitepackages()[0])"], tmp_path)
    hook = Path(folder.stdout.strip(), "sitecustomize.py")
    hook.write_text(NO_NETWORK.format(log=str(log)))
    control = "import urllib.request; urllib.request.urlopen('http://192.0.2.1')"
    assert "unreachable" in run([python, "-c", control], tmp_path).stderr
    log.unlink()
    command = [environment / "xcomp", "demo", "--port", "0", "--cache-dir", tmp_path / "cache"]
    began = time.monotonic()
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[1]
            right = [answer_of(url, *question) == answer for *question, answer in demo_questions()]
            seconds = time.monotonic() - began
        finally:
            server.terminate()
            server.communicate(timeout=60)
    print(f"{sum(right)} of {len(right)} right, {seconds:.0f} s from the start of the command")
    assert sum(right) >= 0.9 * len(right)
    assert seconds < 60
    assert not log.exists(), log.read_text()


def demo_questions() -> list[tuple[str, str, str]]:
    """Returns (title of the video, question, answer) of the demo."""
    videos = json.loads((REPO / "xcomp_jax" / "demo" / "videos.json").read_text())
    return [(v["title"], q["text"], q["answer"]) for v in videos for q in v["questions"]]


def answer_of(url: str, title: str, question: str) -> str:
    """Asks a server about the video with this title."""
    with urllib.request.urlopen(f"{url}/v1/videos", timeout=60) as listing:
        video = next(v["id"] for v in json.load(listing)["data"] if v["name"] == title)
    content = [
        {"type": "video_url", "video_url": {"url": f"xcomp://{video}"}},
        {"type": "text", "text": question},
    ]
    body = {"model": "xcomp-demo", "messages": [{"role": "user", "content": content}]}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["choices"][0]["message"]["content"]
