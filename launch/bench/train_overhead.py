"""What the host does beside the model: waiting for data, the framework, decoding, on this machine.

    python -m launch.train_overhead                 # all of it, some minutes on two cores
    python -m launch.train_overhead --steps 40 --folder /tmp/overhead

The smoke model tunes with compression on generated videos, once from the files and once from the
store of encoder features that `xcomp encode --mixture` fills. The first ten steps, which compile,
do not count; the last twenty run under JAX's profiler, which slows the host a little. "Outside
compiled code" is the share of those twenty in which no program was running; it can only be read
off a CPU's trace.

Decoding is measured on an h264 file of 1280 x 720 resized to 448 px, in seconds of processor time
of this process and of ffmpeg, so that a busy machine does not matter; likewise reading features.
The number of host cores divides what the devices could take at a given MFU by these rates.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import smoke, xcomp_2b
from xcomp_jax.checkpoint import save_params
from xcomp_jax.config import (
    DataConfig,
    ExperimentConfig,
    MixtureConfig,
    SamplingConfig,
    from_dict,
)
from xcomp_jax.data.mixture.experiment import open_training_mixture, scan_training_mixture
from xcomp_jax.data.mixture.samples import load_mixture
from xcomp_jax.data.mixture.scan import scan
from xcomp_jax.data.mixture.scan_table import read_table
from xcomp_jax.data.prepared.sampled_video import VideoView, read_sampled_video
from xcomp_jax.data.synthetic.generate import generate
from xcomp_jax.data.synthetic.mp4 import encode_mp4
from xcomp_jax.engine.compilation import use_compilation_cache
from xcomp_jax.flops import training_flops
from xcomp_jax.inference.encode_mixture import encode_media, open_encoder
from xcomp_jax.models.xcomp import init_params
from xcomp_jax.peaks import PEAKS
from xcomp_jax.sharding import make_mesh
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.token_store import StoreKey, TokenStore
from xcomp_jax.training.loop import Run, run_stage
from xcomp_jax.training.metrics import read_metrics
from xcomp_jax.training.observe import Observation, Profile
from xcomp_jax.training.stopping import StopRequest

WARM_UP = 10
TRACED = 20
# 32 chips, each one JAX device: the name counts two cores a chip.
V5P_64 = 32
ASSUMED_MFU = 0.4
TEXT_TOKENS = 863


def prepare(folder: Path, videos: int) -> ExperimentConfig:
    """The smoke experiment's second stage on a mixture of generated videos, features stored."""
    config: ExperimentConfig = from_dict(ExperimentConfig, smoke.get_config().to_dict())
    made = generate(
        folder / "videos", seed=0, num_train_videos=videos, num_eval_videos=16, progress=False
    )
    listed = {"json_path": str(made.train_manifest), "data_root": str(made.folder)}
    # JSON is YAML.
    (folder / "mixture.yaml").write_text(json.dumps({"datasets": [listed]}), encoding="utf-8")
    mixture = MixtureConfig(path=str(folder / "mixture.yaml"))
    checkpoint = folder / "checkpoint"
    if not checkpoint.exists():
        params = jax.jit(lambda: init_params(config.model, jax.random.key(0)))()
        save_params(checkpoint, config.model, params, source={})
    samples = load_mixture(mixture).samples
    table = folder / "scan.csv"
    scan(samples, Path(), table, workers=2, progress=False)
    store, encoder, model = open_encoder(checkpoint, folder / "features")
    encode_media(
        samples,
        read_table(table),
        store,
        encoder,
        root=Path(),
        sampling=config.sampling,
        config=model,
        workers=2,
        progress=False,
    )
    return dataclasses.replace(
        config,
        init_from=str(checkpoint),
        data=DataConfig(source="mixture", mixture=mixture, prompt_as_asked=True),
        stages=config.stages[1:],
        save_every_steps=10**6,
    )


def measure_loop(
    config: ExperimentConfig, folder: Path, steps: int, features: str
) -> dict[str, float]:
    """A median step's seconds, and shares of the time: from the loop's own metrics and trace."""
    mixture = dataclasses.replace(config.data.mixture, features=features)
    stage = dataclasses.replace(config.stages[0], num_steps=steps)
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, mixture=mixture), stages=(stage,)
    )
    workdir = Path(tempfile.mkdtemp(dir=folder))
    scan_training_mixture(config, workdir, progress=False)
    dataset = open_training_mixture(config, workdir, load_tokenizer(None), progress=False)
    untraced = steps - TRACED
    run = Run(
        config=config,
        workdir=workdir,
        mesh=make_mesh(config.mesh),
        observation=Observation(progress=False, profile=Profile(step=untraced + 1, count=TRACED)),
        stop=StopRequest(),
    )
    with jax.set_mesh(run.mesh):
        run_stage(run, stage, _random(config), dataset, evaluate=_never)
    lines = read_metrics(workdir / "metrics.jsonl")[WARM_UP:untraced]
    seconds = [line["seconds"] for line in lines]
    return {
        "step_seconds": statistics.median(seconds),
        "waiting_for_data": sum(line["data_seconds"] for line in lines) / sum(seconds),
        "outside_compiled_code": outside_compiled_code(workdir / "profile"),
    }


def _random(config: ExperimentConfig) -> Any:
    return jax.jit(lambda: init_params(config.model, jax.random.key(0)))()


def _never(*_: Any) -> Any:
    raise AssertionError("no evaluation was asked for")


def outside_compiled_code(profile: Path) -> float:
    """Share of a trace of a CPU, from its first program to its last, in which none was running.

    Programs too small for JAX to hand to a thread of their own count as outside.

    Raises:
        ValueError: the trace shows no program on a CPU.
    """
    (path,) = profile.rglob("*.xplane.pb")
    running = sorted(
        (event.start_ns, event.end_ns)
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes
        for line in plane.lines
        if line.name.startswith("tf_XLAPjRtCpuClient")
        for event in line.events
        if event.name.startswith("ThunkExecutor::Execute")
    )
    if not running:
        raise ValueError(f"{path} shows no program at work on a CPU: was it traced on one?")
    first, until = running[0][0], running[0][0]
    idle = 0.0
    for start, end in running:
        idle += max(0.0, start - until)
        until = max(until, end)
    return idle / (until - first)


def decoding_rate(folder: Path, frames: int = 256) -> float:
    """Frames per second that one core decodes and resizes to 448 px."""
    path = folder / "film.mp4"
    if not path.exists():
        encode_mp4(_film(frames), path, fps=8)
    sampling = SamplingConfig(fps=8, min_frames=8, max_frames=frames)
    view = VideoView(sampling=sampling, image_size=448, clip_frames=8)
    spent = _processor_seconds(lambda: read_sampled_video(path, view))
    return frames / spent


def _film(frames: int) -> np.ndarray:
    """[F, 720, 1280, 3]: coarse noise that moves, so that there is something to predict."""
    coarse = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
    still = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    return np.stack([np.roll(still, (frame, 3 * frame), axis=(0, 1)) for frame in range(frames)])


def reading_rate(folder: Path, times: int = 5) -> float:
    """Bytes of features per second that one core reads and checks: examples of full size."""
    config: ExperimentConfig = from_dict(ExperimentConfig, xcomp_2b.get_config().to_dict())
    model, frames = config.model, config.sampling.max_frames
    clip = model.vision.clip_frames
    tokens, width = clip * model.projector.tokens_per_frame, model.vision.width
    key = StoreKey.make(
        video_hash="0" * 64,
        frame_indices=range(frames),
        image_size=model.vision.image_size,
        preprocessing="made up",
        encoder_hash="0" * 64,
        clip_frames=clip,
        tokens_per_clip=tokens,
        width=width,
        dtype="bfloat16",
    )
    starts = range(0, frames, clip)
    made = np.random.default_rng(0).normal(size=(tokens, width)).astype(jnp.bfloat16)
    store = TokenStore(folder / "full")
    with store.video(key) as video:
        video.write({start: made for start in video.missing(starts)})

    def read() -> None:
        for _ in range(times):
            clips = store.video(key).read(starts)
            np.concatenate([clips[start] for start in starts])

    return times * len(starts) * made.nbytes / _processor_seconds(read)


def _processor_seconds(work: Callable[[], Any]) -> float:
    def used() -> float:
        return sum(
            usage.ru_utime + usage.ru_stime
            for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )

    before = used()
    work()
    return used() - before


def host_cores(decoded: float, read: float) -> dict[str, float]:
    """Cores that keep a v5p-64 busy with the published recipe's longest examples."""
    config: ExperimentConfig = from_dict(ExperimentConfig, xcomp_2b.get_config().to_dict())
    stage, frames = config.stages[0], config.sampling.max_frames
    model = config.stage_model(stage)
    speed = V5P_64 * PEAKS["TPU v5p"].tflops * 1e12 * ASSUMED_MFU
    from_files, from_store = (
        speed / training_flops(model, stage, frames=frames, text=TEXT_TOKENS, encoded=ready).model
        for ready in (False, True)
    )
    width = model.projector.tokens_per_frame * model.vision.width * 2  # bfloat16
    return {
        "examples_per_second_from_files": from_files,
        "cores_from_files": from_files * frames / decoded,
        "examples_per_second_from_store": from_store,
        "cores_from_store": from_store * frames * width / read,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one line of JSON for each measurement, as it is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=80, help="of a loop (default: 80)")
    parser.add_argument("--videos", type=int, default=64, help="to generate (default: 64)")
    parser.add_argument("--folder", type=Path, help="keep files here (default: a temporary one)")
    options = parser.parse_args(arguments)
    if options.steps <= WARM_UP + TRACED:
        parser.error(
            f"--steps {options.steps} must exceed {WARM_UP + TRACED}: the first {WARM_UP} are left "
            f"out and the last {TRACED} traced"
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        use_compilation_cache(folder / "cache")
        config = prepare(folder, options.videos)
        decoded, read = decoding_rate(folder), reading_rate(folder)
        _show("decoded frames per core second, 720p to 448 px", decoded)
        _show("features read per core second, MB", read / 1e6)
        _show(f"v5p-64 at an MFU of {ASSUMED_MFU}", host_cores(decoded, read))
        _show("from files", measure_loop(config, folder, options.steps, ""))
        stored = str(folder / "features")
        _show("from the store", measure_loop(config, folder, options.steps, stored))


def _show(name: str, value: Any) -> None:
    print(json.dumps({name: value}, default=float), flush=True)


if __name__ == "__main__":
    main()
