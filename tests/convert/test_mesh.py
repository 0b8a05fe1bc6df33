"""Conversion onto a mesh: one process with one device, and two processes with four devices."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.convert import torch_model
from xcomp_jax.cli.main import build_parser, main
from xcomp_jax.config import MeshConfig
from xcomp_jax.convert.verify import verify


def parsed_mesh(text: str) -> MeshConfig:
    arguments = ["convert", "from-torch", "source", "out", "--mesh", text]
    return build_parser().parse_args(arguments).mesh


def test_mesh_option_sets_axes() -> None:
    assert parsed_mesh("fsdp=4,tensor=2") == MeshConfig(data=1, fsdp=4, tensor=2, context=1)
    assert parsed_mesh("fsdp=-1") == MeshConfig(data=1, fsdp=-1, tensor=1, context=1)


@pytest.mark.parametrize("text", ["", "fsdp", "fsdp=two", "rows=2", "fsdp=0", "data=-1,fsdp=-1"])
def test_invalid_mesh_option_is_rejected(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed_mesh(text)
    assert caught.value.code == 2
    assert "xcomp convert from-torch: --mesh " in capsys.readouterr().err


def test_mesh_unlike_devices_is_rejected(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = source.parent / "out"
    assert main(["convert", "from-torch", str(source), str(out), "--mesh", "fsdp=4096"]) == 2
    assert "does not fit" in capsys.readouterr().err
    assert not out.exists()


def test_mesh_of_one_device_converts(source: Path) -> None:
    out = source.parent / "out"
    assert main(["convert", "from-torch", str(source), str(out), "--mesh", "data=1"]) == 0
    assert verify(source, out).equal


PROGRAM = """
    import sys
    import jax
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize("localhost:" + sys.argv[1], 2, int(sys.argv[2]))
    import numpy as np
    from pathlib import Path
    from xcomp_jax.convert.errors import ConversionError
    from xcomp_jax.convert.from_torch import convert_from_torch, load_torch_checkpoint
    from xcomp_jax.config import MeshConfig
    from xcomp_jax.convert.fill import mesh_shardings
    from xcomp_jax.checkpoint import load_params
    folder = Path(sys.argv[3])
    mesh = MeshConfig(data=1, fsdp=2, tensor=2, context=1)
    convert_from_torch(str(folder / "source"), folder / "out", mesh=mesh)

    model, whole = load_torch_checkpoint(folder / "source")
    _, parts = load_params(folder / "out", shardings=mesh_shardings(model, mesh))
    def compare(part, array):
        for shard in part.addressable_shards:
            np.testing.assert_array_equal(shard.data, array[shard.index])
    jax.tree.map(compare, parts, whole)
    assert not parts["llm"]["embed_tokens"]["embedding"].is_fully_addressable

    try:
        convert_from_torch(str(folder / "broken"), folder / "rejected", mesh=mesh)
    except ConversionError as error:
        print("REJECTED", error.problems)

    try:
        convert_from_torch("owner/name", folder / "rejected", mesh=mesh, revision="main")
    except ConversionError as error:
        print("REJECTED", error.problems)
"""


def test_two_processes_convert_and_stop_together(tmp_path: Path) -> None:
    settings = torch_model.config()
    values = torch_model.tensors(settings)
    values["model.mm_projector.mlp.0.weight"][:] = 0  # zeros need no special case
    source = torch_model.write(tmp_path / "source", settings, values)
    broken = torch_model.make(tmp_path / "broken")
    values = {k: v.copy() for k, v in load_file(broken / "model.safetensors").items()}
    values["model.embed_tokens.weight"][0, 0] = np.nan  # in the slice of the first process
    save_file(values, broken / "model.safetensors")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), port]
    processes = [
        subprocess.Popen(
            [*command, str(i), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["broken", "out", "source"]
    assert verify(source, tmp_path / "out").equal
    first, second = (output for output, _ in outputs)
    assert "not finite: 'model.embed_tokens.weight' has 1" in first
    assert "process 0 has 1 problem(s), see its output" in second
    for output in (first, second):
        assert "revision 'main' is not a full commit, which several processes require" in output
