"""Bodies of `/v1/chat/completions` in the dialects of OpenAI, vLLM and SGLang."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=-1, le=1 << 20)]
Rate = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
Select = Annotated[int, Field(ge=1, le=1 << 20)] | Literal["all"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="allow")


class VideoUrl(_Body):
    """`url`: xcomp://ID, data:, file:// or http(s)://, or a list of frames; SGLang's fields."""

    url: str | list[str] | None = None
    num_frames: Count | None = None
    fps: Rate | None = None
    max_frames: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    duration: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class ImageUrl(_Body):
    """`url`: data: or http(s)://; OpenAI's detail has no effect."""

    url: str
    detail: str | None = None


class TextPart(_Body):
    type: Literal["text", "input_text"]
    text: str


class VideoPart(_Body):
    """A video; `uuid` is the client's own id for it."""

    type: Literal["video_url", "input_video"]
    video_url: VideoUrl | str | None = None
    uuid: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class ImagePart(_Body):
    type: Literal["image_url"]
    image_url: ImageUrl | str
    uuid: Annotated[str, Field(min_length=1, max_length=200)] | None = None


ContentPart = Annotated[TextPart | VideoPart | ImagePart, Field(discriminator="type")]


class Message(_Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None


class StreamOptions(_Body):
    include_usage: bool = False


class MediaOptions(_Body):
    """Options of videos, as vLLM's `media_io_kwargs` and `mm_processor_kwargs` have them."""

    num_frames: Count | None = None
    fps: Rate | None = None
    max_frames: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    duration: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class MediaIoOptions(_Body):
    video: MediaOptions | None = None


class ChatRequest(_Body):
    """A chat completion.

    select: frames that the question selects, or "all". num_frames, fps, max_frames: sampled frames;
    the same fields inside `video_url` or the options of vLLM have the same meaning.
    """

    model: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=256)]
    max_tokens: Annotated[int, Field(ge=1, le=32_768)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=32_768)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1 << 20)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), le=(1 << 63) - 1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    num_frames: Count | None = None
    fps: Rate | None = None
    max_frames: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    select: Select | None = None
    media_io_kwargs: MediaIoOptions | None = None
    mm_processor_kwargs: MediaOptions | None = None
    tools: list[Any] | None = None
    logprobs: bool | None = None
    response_format: dict[str, Any] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
