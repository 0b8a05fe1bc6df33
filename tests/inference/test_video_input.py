"""Tests sampling and damage of video files as questions meet them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.video.clips import write_clip
from xcomp_jax.config import ConfigError, SamplingConfig
from xcomp_jax.engine.clips import FileFrames
from xcomp_jax.inference.evidence import evidence_of
from xcomp_jax.inference.open_session import demo_session
from xcomp_jax.inference.session import Session
from xcomp_jax.inference.video_input import sample_frames
from xcomp_jax.token_store import TokenStore
from xcomp_jax.video.probe import VideoInfo, probe
from xcomp_jax.video.sampling import FramePlan


@pytest.fixture(scope="module", name="session")
def session_fixture(tmp_path_factory: pytest.TempPathFactory) -> Session:
    session = demo_session(store=TokenStore(tmp_path_factory.mktemp("store")))
    session.sampling = dataclasses.replace(session.sampling, max_damaged=0.3)
    return session


def sampled(session: Session, video: Path, num_frames: int) -> tuple[VideoInfo, FramePlan]:
    return sample_frames(
        video,
        session.config,
        SamplingConfig(),
        num_frames=num_frames,
        start=None,
        end=None,
    )


def test_sample_frames_far_too_many_are_refused(session: Session, tmp_path: Path) -> None:
    video = write_clip(tmp_path / "a.mp4", 80)
    with pytest.raises(ConfigError, match=r"video of 80 frames; use at most 1024 \(--frames\)"):
        sampled(session, video, 10**6)
    info, plan = sampled(session, video, 1024)
    assert len(plan.indices) == 1024
    assert info.notes == ("1024 frames were sampled from 80 frames: each is repeated 13 times",)
    assert sampled(session, video, 160)[0].notes == ()


def test_evidence_of_damaged_video_states_damage(session: Session, tmp_path: Path) -> None:
    video = write_clip(tmp_path / "a.mp4", 64, block=32, options=["-c:v", "libx264"])
    content = bytearray(video.read_bytes())
    start = content.index(b"mdat") + 1500
    content[start : start + 8] = bytes(byte ^ 0xFF for byte in content[start : start + 8])
    video.write_bytes(content)
    encoded = session.encode_video(video, num_frames=64)
    evidence = evidence_of(encoded, session.ask(encoded, "What?"), model="demo")
    assert "decoded" in evidence.notes[-1]
    strict = dataclasses.replace(session.sampling, max_damaged=0.0)
    info, plan = sampled(session, video, 64)
    source = FileFrames(info, plan.indices, 32, max_damaged=strict.max_damaged)
    with pytest.raises(ValueError, match="is damaged"):
        list(source.frames(range(64)))


def test_clip_cache_key_separates_streams_only(session: Session, tmp_path: Path) -> None:
    info, plan = sampled(session, write_clip(tmp_path / "a.mp4", 20), 16)
    stored = session._stored_clips
    assert stored is not None
    assert info.packets is not None
    other = dataclasses.replace(info, packets=dataclasses.replace(info.packets, stream=1))
    keys = [
        stored.clip_cache(video, plan, verify=False).key
        for video in (info, other, probe(info.path))
    ]
    assert keys[0] == keys[2] != keys[1]
    assert keys[0].preprocessing == "bicubic, ImageNet mean and deviation"  # as in old stores
