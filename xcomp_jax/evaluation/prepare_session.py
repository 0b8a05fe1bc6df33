"""Applies a protocol to a loaded model, and hashes what its answers depend on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import get_args

from xcomp_jax.config import CompressionConfig, ConfigError, DType, ProtocolConfig, to_dict
from xcomp_jax.evaluation.question import Question
from xcomp_jax.evaluation.rows import settings_hash
from xcomp_jax.inference.open_session import checked_selection
from xcomp_jax.inference.session import Session
from xcomp_jax.token_store import TokenStore, hash_encoder

MAX_TEXT_TOKENS = 32_768
"""Context length of the language model; subtitles of an hour take tens of thousands of tokens."""

NOT_HASHED = ("benchmark", "system", "subset", "subtitles", "headline", "published", "not_pinned")
"""Settings that do not change the answer to a given prompt."""


def require_supported(protocol: ProtocolConfig, questions: Sequence[Question]) -> None:
    """Checks that a session can ask the questions.

    Raises:
        ConfigError: a setting that only questions about needles have.
    """
    if any(question.needles for question in questions):
        return
    if protocol.yarn_factor != 1:
        raise ConfigError(
            f"yarn_factor={protocol.yarn_factor:g} is only supported with needles; set it to 1"
        )
    if not protocol.time_message:
        raise ConfigError("time_message=False is only supported with needles; set it to True")


def requested_dtype(protocol: ProtocolConfig) -> DType | None:
    """Returns the protocol's dtype if the model has it; float16 gives the devices' default."""
    return next((dtype for dtype in get_args(DType) if dtype == protocol.dtype), None)


def protocol_session(
    loaded: Session, protocol: ProtocolConfig, store: TokenStore | None
) -> tuple[Session, ProtocolConfig]:
    """Returns a session with a protocol's settings, and the protocol with the dtype in use.

    Args:
        loaded: session whose parameters, tokenizer and devices are used.

    Raises:
        ConfigError: the model does not support the settings.
    """
    config = loaded.config
    if protocol.compression == "none":
        config = dataclasses.replace(config, compression=CompressionConfig(schedule="none"))
    if protocol.clip_frames is not None:
        vision = dataclasses.replace(config.vision, clip_frames=protocol.clip_frames)
        config = dataclasses.replace(config, vision=vision)
    if protocol.yarn_factor != 1:
        llm = dataclasses.replace(config.llm, yarn_factor=protocol.yarn_factor)
        config = dataclasses.replace(config, llm=llm)
    session = Session(
        config,
        loaded.params,
        loaded.tokenizer,
        generation=dataclasses.replace(
            loaded.generation,
            max_new_tokens=protocol.max_new_tokens,
            max_text_tokens=MAX_TEXT_TOKENS,
            repetition_penalty=protocol.repetition_penalty,
        ),
        sampling=protocol.sampling,
        selection=checked_selection(config, protocol.selection),
        store=store,
        mesh=loaded.engine.placement.mesh,
    )
    return session, dataclasses.replace(protocol, dtype=config.dtype)


def checkpoint_hash(session: Session) -> str:
    """Hashes parameters, model configuration, tokenizer and end tokens."""
    settings = {
        "model": dataclasses.asdict(session.config),
        "tokenizer": session.tokenizer.backend_tokenizer.to_str(),
        "eos_token_ids": list(session.generation.eos_token_ids),
    }
    return hash_encoder(session.params, settings)[:16]


def protocol_hash(protocol: ProtocolConfig) -> str:
    """Hashes the settings that change an answer to a given prompt."""
    values = to_dict(protocol)
    return settings_hash({name: values[name] for name in values if name not in NOT_HASHED})
