"""Configuration of an evaluation: every setting of a published number."""

from __future__ import annotations

import dataclasses
from typing import Literal

from xcomp_jax.config.schema import require
from xcomp_jax.config.video import SamplingConfig, SelectionConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedScore:
    """A published score in percent, and where it stands.

    group: "kind=value" of the category it covers, such as "duration=long"; empty for all questions.
    metric: `micro`, mean over questions; `macro`, mean over groups; `miou`, mean overlap.
    questions: number of questions behind it, for its standard error; 0 if unknown.
    """

    system: str
    percent: float
    source: str
    group: str = ""
    metric: Literal["micro", "macro", "miou"] = "micro"
    questions: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.percent <= 100, f"percent={self.percent} must lie in [0, 100]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProtocolConfig:
    """Protocol of a benchmark: all that a score depends on besides data and checkpoint.

    benchmark: name of the task, which defines the prompt and the letter rule.
    system: the system whose published numbers used these settings.
    subset: "kind=value" of the category that is evaluated; empty for all questions.
    subtitles: the prompt lists the subtitles.
    extracted_frames: prefer a folder of extracted images to a video file where both exist.
    time_message: the prompt states duration and number of frames.
    selection: None keeps all sampled frames.
    compression: `checkpoint` uses the checkpoint's schedule; `none` switches it off.
    clip_frames: frames that the encoder processes together; None for the checkpoint's.
    dtype: None for the default of the devices.
    headline: scoring mode of the score that is compared with the published one.
    yarn_factor: factor of YaRN's rotary scaling beyond the trained window; 1 for none.
    not_pinned: settings that public code and logs do not determine, with the reason for the value.
    """

    benchmark: str
    system: str
    subset: str = ""
    subtitles: bool = False
    extracted_frames: bool = False
    time_message: bool = True
    sampling: SamplingConfig = SamplingConfig()
    selection: SelectionConfig | None = None
    compression: Literal["checkpoint", "none"] = "checkpoint"
    clip_frames: int | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    max_new_tokens: int = 16
    repetition_penalty: float = 1.1
    headline: Literal["reference", "strict", "lmms_eval"] = "reference"
    yarn_factor: float = 1.0
    published: tuple[PublishedScore, ...] = ()
    not_pinned: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(
            self.max_new_tokens >= 1, f"max_new_tokens={self.max_new_tokens} must be at least 1"
        )
        require(
            self.repetition_penalty > 0,
            f"repetition_penalty={self.repetition_penalty} must be positive",
        )
        require(
            self.subset == "" or "=" in self.subset,
            f'subset={self.subset!r} must be "kind=value", such as "duration=long", or empty',
        )
        require(self.yarn_factor >= 1, f"yarn_factor={self.yarn_factor} must be at least 1")
        require(
            self.clip_frames is None or self.clip_frames >= 1,
            f"clip_frames={self.clip_frames} must be at least 1, or None for the checkpoint's",
        )
