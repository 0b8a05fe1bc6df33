"""Hub ids: resolution to a commit, download at that commit, and errors without a network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.convert import torch_model
from tests.convert.hub_server import REPOSITORY, HubServer, serve
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.folder import read_weights
from xcomp_jax.convert.hub import Source, find_source

COMMITS = ("0123456789abcdef0123456789abcdef01234567", "89abcdef" * 5)
REFS = {"main": COMMITS[1], "v1.0": COMMITS[0], "user/branch": COMMITS[0]}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """Serves two commits with different weights; each also has code and a pickle."""
    folders = [torch_model.make(tmp_path / f"commit{seed}", seed=seed) for seed in (0, 1)]
    for folder in folders:
        (folder / "modeling.py").write_text("raise SystemExit('executed')")
        (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with serve(dict(zip(COMMITS, folders, strict=True)), REFS) as server:
        yield server


def find(hub: HubServer, tmp_path: Path, revision: str | None = None) -> Source:
    return find_source(REPOSITORY, revision, endpoint=hub.url, cache_dir=tmp_path / "cache")


def hub_problem(name: str, revision: str | None, endpoint: str, cache: Path) -> str:
    with pytest.raises(ConversionError) as caught:
        find_source(name, revision, endpoint=endpoint, cache_dir=cache)
    (problem,) = caught.value.problems
    assert caught.value.subject == name
    return problem


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def weights(folder: Path) -> dict[str, bytes]:
    tensors = read_weights(folder)
    return {name: tensor.values.tobytes() for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("revision", "label"),
    [(None, "main"), ("main", "main"), ("v1.0", "v1.0"), ("user/branch", "user/branch")],
)
def test_branch_or_tag_is_resolved_to_commit(
    hub: HubServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    revision: str | None,
    label: str,
) -> None:
    commit = REFS[label]
    source = find(hub, tmp_path, revision)
    assert (source.name, source.revision) == (REPOSITORY, commit)
    assert f"resolved {REPOSITORY}@{label} to {commit}\n" in capsys.readouterr().err
    assert weights(source.folder) == weights(hub.commits[commit])
    assert weights(source.folder) != weights(hub.commits[COMMITS[commit == COMMITS[0]]])


def test_resolution_precedes_every_download(hub: HubServer, tmp_path: Path) -> None:
    find(hub, tmp_path)
    first, *rest = hub.paths
    assert first == f"/api/models/{REPOSITORY}/revision/main"
    assert [path for path in rest if path.endswith("model.safetensors")]
    prefixes = (
        f"/api/models/{REPOSITORY}/tree/{COMMITS[1]}",
        f"/{REPOSITORY}/resolve/{COMMITS[1]}/",
    )
    assert [path for path in rest if not path.startswith(prefixes)] == []


def test_code_and_pickles_are_not_downloaded(hub: HubServer, tmp_path: Path) -> None:
    source = find(hub, tmp_path)
    names = {path.name for path in source.folder.iterdir()}
    assert names == {"config.json", "model.safetensors", *torch_model.COMPANIONS}
    assert not [path for path in hub.paths if path.endswith((".py", ".bin"))]


def test_full_commit_is_not_resolved(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = find(hub, tmp_path, COMMITS[0])
    assert source.revision == COMMITS[0]
    assert weights(source.folder) == weights(hub.commits[COMMITS[0]])
    assert not [path for path in hub.paths if "/revision/" in path]
    assert "resolved" not in capsys.readouterr().err


def test_moved_branch_gives_new_commit(hub: HubServer, tmp_path: Path) -> None:
    assert find(hub, tmp_path).revision == COMMITS[1]
    hub.refs["main"] = COMMITS[0]
    source = find(hub, tmp_path)
    assert source.revision == COMMITS[0]
    assert weights(source.folder) == weights(hub.commits[COMMITS[0]])


@pytest.mark.parametrize(("name", "revision"), [(REPOSITORY, "v2.0"), ("owner/other", None)])
def test_unknown_revision_or_repository_is_rejected(
    hub: HubServer, tmp_path: Path, name: str, revision: str | None
) -> None:
    problem = hub_problem(name, revision, hub.url, tmp_path / "cache")
    assert f"no such repository or revision {revision or 'main'!r} on the hub" in problem
    assert not [path for path in hub.paths if "/resolve/" in path]


@pytest.mark.parametrize("name", [REPOSITORY, "owner/other"])
def test_unknown_commit_is_rejected(hub: HubServer, tmp_path: Path, name: str) -> None:
    problem = hub_problem(name, "f" * 40, hub.url, tmp_path / "cache")
    assert f"no such repository or revision {'f' * 40!r} on the hub" in problem


@pytest.mark.parametrize("revision", [None, COMMITS[0]])
def test_gated_repository_names_the_login_command(
    hub: HubServer, tmp_path: Path, revision: str | None
) -> None:
    hub.error = (403, "GatedRepo")
    problem = hub_problem(REPOSITORY, revision, hub.url, tmp_path / "cache")
    assert problem == "is gated; accept its terms on the hub and run `hf auth login`"


def test_failing_hub_is_reported(hub: HubServer, tmp_path: Path) -> None:
    hub.error = (500, "InternalError")
    problem = hub_problem(REPOSITORY, None, hub.url, tmp_path / "cache")
    assert problem.startswith("the hub failed to resolve 'main', try again later (")
    problem = hub_problem(REPOSITORY, COMMITS[0], hub.url, tmp_path / "cache")
    assert problem.startswith(f"commit {COMMITS[0]} cannot be downloaded and is not in the local")


def test_missing_network_names_cached_commits(hub: HubServer, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    problem = hub_problem(REPOSITORY, None, endpoint, tmp_path / "cache")
    assert problem == (
        "no folder of this name, and the hub cannot be reached to resolve 'main'. Connect to the "
        "network, use a local folder, or set the revision to a commit in the local hub cache "
        "(which has none of this repository)"
    )
    find(hub, tmp_path, COMMITS[0])
    problem = hub_problem(REPOSITORY, "v1.0", endpoint, tmp_path / "cache")
    assert problem.endswith(f"local hub cache (cached: {COMMITS[0]})")


def test_missing_network_with_cached_commit_succeeds(hub: HubServer, tmp_path: Path) -> None:
    online = find(hub, tmp_path, COMMITS[0])
    endpoint, cache = f"http://127.0.0.1:{free_port()}", tmp_path / "cache"
    assert find_source(REPOSITORY, COMMITS[0], endpoint=endpoint, cache_dir=cache) == online
    problem = hub_problem(REPOSITORY, COMMITS[1], endpoint, cache)
    assert problem.startswith(
        f"commit {COMMITS[1]} cannot be downloaded and is not in the local hub cache. Connect to "
        "the network or use a local folder"
    )


def test_folder_with_revision_is_rejected(source: Path) -> None:
    with pytest.raises(ConversionError, match=r"is a local folder; revision v1\.0 only applies to"):
        find_source(str(source), "v1.0")


def test_folder_takes_precedence_over_hub_id(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source.parent / "owner").mkdir()
    source.rename(source.parent / "owner" / "name")
    monkeypatch.chdir(source.parent)
    assert find_source(REPOSITORY).revision is None


def run_command(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in its own process: huggingface_hub reads its settings at import."""
    return subprocess.run(
        [sys.executable, "-m", "xcomp_jax.cli.main", "convert", "from-torch", *arguments],
        env={**os.environ, "HF_HOME": str(home), **variables},
        capture_output=True,
        text=True,
    )


def test_command_records_commit_in_model_card(hub: HubServer, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    done = run_command(home, REPOSITORY, str(out), "--revision", "v1.0", HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    assert f"resolved {REPOSITORY}@v1.0 to {COMMITS[0]}\n" in done.stderr
    assert f"`{REPOSITORY}` at commit `{COMMITS[0]}`" in (out / "README.md").read_text()


def test_command_offline_uses_cached_commit(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    torch_model.make(home / "hub" / "models--owner--name" / "snapshots" / COMMITS[0])
    done = run_command(home, REPOSITORY, str(out), HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"xcomp convert from-torch: {REPOSITORY}: no folder of this name, and the hub cannot be "
        "reached to resolve 'main'."
    )
    assert not out.exists()
    done = run_command(home, REPOSITORY, str(out), "--revision", COMMITS[0], HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert f"`{REPOSITORY}` at commit `{COMMITS[0]}`" in (out / "README.md").read_text()
