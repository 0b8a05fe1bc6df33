"""Reads a chat completion: turns, the one video, its frames, and the settings of generation."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.serving.chat_models import (
    ChatRequest,
    ImagePart,
    ImageUrl,
    MediaOptions,
    Message,
    TextPart,
    VideoPart,
    VideoUrl,
)
from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.frame_request import FrameRequest
from xcomp_jax.serving.settings import Limits
from xcomp_jax.text.chatml import Turn

SEED_BITS = 32


@dataclasses.dataclass(frozen=True)
class Media:
    """The video of a conversation as its client names it.

    urls: one URL, or several frames. uuid: the client's own id. is_frames: `urls` are images.
    fps: images per second, if it is a list of frames.
    """

    urls: tuple[str, ...]
    uuid: str | None
    is_frames: bool
    fps: float = 1.0


@dataclasses.dataclass(frozen=True)
class ChatJob:
    """A checked chat completion.

    turns: without control marks; video_turn: index of the turn with the video.
    first_question: text whose attention selects the frames. stop: texts that end the answer.
    ignored: names of fields without effect.
    """

    turns: tuple[Turn, ...]
    video_turn: int
    first_question: str
    media: Media
    frames: FrameRequest
    select: int | str | None
    generation: GenerationConfig
    seed: int
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool
    ignored: tuple[str, ...]


def read_chat(body: ChatRequest, defaults: GenerationConfig, limits: Limits) -> ChatJob:
    """Checks a chat completion.

    Raises:
        ApiError: it needs something that the model or the server does not have.
    """
    _check_supported(body)
    texts = [_text_of(message) for message in body.messages]
    _check_text(texts, limits)
    found = list(_media_of(body.messages))
    if not found:
        raise ApiError(
            400,
            "the conversation has no video; add a content part such as "
            '{"type": "video_url", "video_url": {"url": "xcomp://video-..."}}',
            param="messages",
            code="video_missing",
        )
    video_message, media, inner = found[0]
    if any(other.urls != media.urls or other.uuid != media.uuid for _, other, _ in found[1:]):
        raise ApiError(
            400,
            "the conversation has several videos; the model sees one video per conversation, so "
            "ask about each in a conversation of its own",
            param="messages",
            code="several_videos",
        )
    turns = [_turn(m, text) for m, text in zip(body.messages, texts, strict=True)]
    if body.messages[-1].role in ("assistant", "system", "developer"):
        raise ApiError(400, "the last message must be a question (role user)", param="messages")
    return ChatJob(
        turns=tuple(turns),
        video_turn=video_message,
        first_question=_first_question(body.messages, texts, video_message),
        media=dataclasses.replace(media, fps=_list_rate(body, inner)),
        frames=_frames(body, media, inner),
        select=body.select,
        generation=_generation(body, defaults),
        seed=secrets.randbits(SEED_BITS) if body.seed is None else body.seed % (1 << SEED_BITS),
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        ignored=tuple(sorted(_ignored(body))),
    )


def _check_supported(body: ChatRequest) -> None:
    for name, is_used, advice in (
        ("n", (body.n or 1) > 1, "send the request several times with other seeds"),
        ("tools", bool(body.tools), "the model calls no tools"),
        ("logprobs", bool(body.logprobs), "remove it"),
        ("presence_penalty", bool(body.presence_penalty), "use repetition_penalty"),
        ("frequency_penalty", bool(body.frequency_penalty), "use repetition_penalty"),
        (
            "response_format",
            (body.response_format or {}).get("type", "text") != "text",
            "ask for the format in the question",
        ),
    ):
        if is_used:
            raise ApiError(
                400, f"{name} is not supported: {advice}", param=name, code="unsupported"
            )


def _check_text(texts: Iterable[str], limits: Limits) -> None:
    size = 0
    for text in texts:
        try:
            size += len(text.encode())
        except UnicodeEncodeError:
            raise ApiError(
                400, "a message has characters that are not valid Unicode text", param="messages"
            ) from None
    if size > limits.max_text_bytes:
        raise ApiError(
            413,
            f"the messages have {size:,} bytes of text, more than the limit of "
            f"{limits.max_text_bytes:,}; shorten them",
            param="messages",
            code="text_too_long",
        )


def _text_of(message: Message) -> str:
    if message.content is None:
        return ""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content if isinstance(part, TextPart))


def _turn(message: Message, text: str) -> Turn:
    match message.role:
        case "developer":
            return Turn("system", text)
        case "tool":
            # As Qwen2.5 renders results of tools; the tags are plain text.
            return Turn("user", f"<tool_response>\n{text}\n</tool_response>")
        case role:
            return Turn(role, text)


def _first_question(messages: list[Message], texts: list[str], video_message: int) -> str:
    for message, text in zip(messages[video_message:], texts[video_message:], strict=True):
        if message.role == "user" and text.strip():
            return text
    raise ApiError(400, "the conversation has no question; add a text part", param="messages")


def _media_of(messages: list[Message]) -> Iterator[tuple[int, Media, MediaOptions | None]]:
    """Yields the media of each message that has some, with the options written beside them."""
    for number, message in enumerate(messages):
        if not isinstance(message.content, list):
            continue
        videos = [part for part in message.content if isinstance(part, VideoPart)]
        images = [part for part in message.content if isinstance(part, ImagePart)]
        if (videos or images) and message.role != "user":
            raise ApiError(400, f"a {message.role} message holds text only", param="messages")
        if videos and images:
            raise ApiError(
                400,
                "a message has a video and images; send one video, or images that form one",
                param="messages",
            )
        for part in videos:
            yield number, *_video_media(part)
        if images:
            urls = tuple(
                part.image_url.url if isinstance(part.image_url, ImageUrl) else part.image_url
                for part in images
            )
            yield number, Media(urls, images[0].uuid, is_frames=True), None


def _video_media(part: VideoPart) -> tuple[Media, MediaOptions | None]:
    video = part.video_url
    if isinstance(video, VideoUrl):
        url, options = video.url, MediaOptions.model_validate(video.model_dump(exclude={"url"}))
    else:
        url, options = video, None
    if isinstance(url, list):
        return Media(tuple(url), part.uuid, is_frames=True), options
    if not url and part.uuid is None:
        raise ApiError(400, "a video part needs a url or the uuid of a known video", param="url")
    return Media((url,) if url else (), part.uuid, is_frames=False), options


def _frames(body: ChatRequest, media: Media, inner: MediaOptions | None) -> FrameRequest:
    """Merges the places in which clients write numbers of frames; the innermost wins."""
    io_options = None if body.media_io_kwargs is None else body.media_io_kwargs.video
    places = [inner, io_options, body.mm_processor_kwargs, body]

    def value(name: str) -> Any:
        values = [getattr(place, name) for place in places if place is not None]
        return next((found for found in values if found is not None), None)

    count = value("num_frames")
    if count == 0:
        raise ApiError(
            400,
            "num_frames=0 asks for no frame; use at least 1, or -1 for the server's number",
            param="num_frames",
        )
    fps = value("fps")
    return FrameRequest(None if count == -1 else count, fps, value("max_frames"))


def _list_rate(body: ChatRequest, inner: MediaOptions | None) -> float:
    places = [inner, body.media_io_kwargs.video if body.media_io_kwargs else None, body]
    return next((p.fps for p in places if p is not None and p.fps is not None), 1.0)


def _generation(body: ChatRequest, defaults: GenerationConfig) -> GenerationConfig:
    values: dict[str, Any] = {
        "max_new_tokens": body.max_completion_tokens or body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": None if body.top_k is None else max(body.top_k, 0),
        "repetition_penalty": body.repetition_penalty,
    }
    changes: Any = {name: value for name, value in values.items() if value is not None}
    try:
        return dataclasses.replace(defaults, **changes)
    except ValueError as error:
        raise ApiError(400, str(error)) from None


def _ignored(body: ChatRequest) -> Iterator[str]:
    yield from body.model_extra or {}
    for options in (body.media_io_kwargs, body.mm_processor_kwargs, body.stream_options):
        if options is not None:
            yield from options.model_extra or {}
