"""Methods of `XComp` as pure functions of a model and its parameters.

Every function takes the parameter tree with or without the adapters of LoRA under `lora`. The
adapters take part in `prefill` and `prefill_video` only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from jax import Array
from jaxtyping import Float, Int

from xcomp_jax.models.decoder_state import LayerGroupCache, PrefillOutput, TextCache
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import Params, XComp

Result = TypeVar("Result")


def call(model: XComp, params: Params, method: Callable[[XComp], Result]) -> Result:
    """Calls `method` on `model` bound to `params`.

    Flax accepts adapters only as a collection of their own, so `lora` leaves the parameter tree.
    """
    variables: dict[str, Any] = {
        "params": {part: leaves for part, leaves in params.items() if part != "lora"}
    }
    if "lora" in params:
        variables["lora"] = {"llm": {"layers": params["lora"]}}
    result: Any = model.apply(variables, method=method)
    return result


def vision_features(
    model: XComp, params: Params, pixels: Float[Array, "C T X X 3"]
) -> Float[Array, "C S D_vision"]:
    """Encodes clips into S = T * P patch features."""
    return call(model, params, lambda module: module.vision_features(pixels))


def project(
    model: XComp, params: Params, features: Float[Array, "C S D_vision"]
) -> Float[Array, "C V D"]:
    """Merges and projects patch features to V = T * tokens_per_frame visual tokens."""
    return call(model, params, lambda module: module.project(features))


def encode(
    model: XComp, params: Params, pixels: Float[Array, "C T X X 3"]
) -> Float[Array, "C V D"]:
    """Encodes clips into V = T * tokens_per_frame visual tokens."""
    return call(model, params, lambda module: module.encode(pixels))


def merged_features(
    model: XComp, params: Params, pixels: Float[Array, "C T X X 3"]
) -> Float[Array, "C V D_vision"]:
    """Encodes clips into V = T * tokens_per_frame merged features."""
    return call(model, params, lambda module: module.merged_features(pixels))


def project_merged(
    model: XComp, params: Params, merged: Float[Array, "*batch D_vision"]
) -> Float[Array, "*batch D"]:
    """Projects merged features to visual tokens."""
    return call(model, params, lambda module: module.project_merged(merged))


def prefill(
    model: XComp,
    params: Params,
    prefix_ids: Int[Array, "B prefix"],
    visual: Float[Array, "B V D"],
    suffix_ids: Int[Array, "B suffix"],
    lengths: Lengths,
    *,
    keep_cache: bool = False,
    collect_layers: bool = False,
    remat: bool = False,
) -> PrefillOutput:
    """Runs the decoder over text, visual tokens and text.

    Args:
        lengths: real tokens of the three parts.
        keep_cache: return keys and values for decoding.
        collect_layers: return the output of every layer.
        remat: recompute layers in the backward pass instead of storing them.
    """
    return call(
        model,
        params,
        lambda module: module.prefill(
            prefix_ids,
            visual,
            suffix_ids,
            lengths,
            keep_cache=keep_cache,
            collect_layers=collect_layers,
            remat=remat,
        ),
    )


def prefill_video(
    model: XComp,
    params: Params,
    prefix_ids: Int[Array, "B prefix"],
    visual: Float[Array, "B V D"],
    lengths: Lengths,
) -> tuple[LayerGroupCache, ...]:
    """Computes the KV cache of text and visual tokens, before any question."""
    return call(model, params, lambda module: module.prefill_video(prefix_ids, visual, lengths))


def extend(
    model: XComp,
    params: Params,
    ids: Int[Array, "B Q"],
    written: Int[Array, " B"],
    cache: tuple[LayerGroupCache, ...],
    text: TextCache,
) -> tuple[Float[Array, "B Q D"], TextCache]:
    """Appends text to a cached sequence.

    Args:
        written: tokens already in `text`.

    Returns:
        Final hidden states, and `text` with the keys and values of the new rows.
    """
    return call(model, params, lambda module: module.extend(ids, written, cache, text))


def logits(
    model: XComp, params: Params, hidden: Float[Array, "*batch D"]
) -> Float[Array, "*batch vocab"]:
    """Computes float32 logits of final hidden states."""
    return call(model, params, lambda module: module.logits(hidden))


def output_table(model: XComp, params: Params) -> Float[Array, "vocab D"]:
    """Returns the rows that `logits` multiplies by."""
    return call(model, params, lambda module: module.output_table())


def empty_text_cache(model: XComp, params: Params, batch: int, room: int) -> TextCache:
    """Allocates space for `room` tokens of text after the cache, at every layer."""
    return call(model, params, lambda module: module.empty_text_cache(batch, room))
