"""Compares a checkpoint's model with activations recorded in PyTorch, layer by layer.

The .npz file contains one or both of these groups of arrays, preferably float32, with or without a
batch dimension of 1:

    pixel_values [clips, T, 3, S, S]        normalized frames, T per clip
    features [clips, T * patches, C]        optional: output of the video encoder
    llm_embeds [clips, tokens, D]           optional: output of the projector

    input_ids [S]                           prompt with the placeholder -200 for the video
    visual_tokens [clips, tokens, D]        visual tokens that replace the placeholder
    hidden_after_layer_NN [rows, D]         optional: any layers, counted from 0
    final_normed_hidden [rows, D]           optional
    logits [rows, vocab]                    optional
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import BadZipFile

import jax.numpy as jnp
import numpy as np

from xcomp_jax.checkpoint import load_params
from xcomp_jax.checkpoint.read import PARAMS_FOLDER
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.from_torch import load_torch_checkpoint
from xcomp_jax.engine.engine import Engine

PLACEHOLDER = -200
_LAYER = re.compile(r"hidden_after_layer_([0-9]+)")
ARRAY_NAMES = ("pixel_values", "features", "llm_embeds", "input_ids", "visual_tokens",
               "final_normed_hidden", "logits")  # fmt: skip

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ActivationDifference:
    """Difference between a recorded array and the model's output.

    Attributes:
        max_abs: largest |output - recorded|.
        relative: max_abs / largest |recorded|.
        ok: True if `relative` is within the tolerance.
    """

    name: str
    max_abs: float
    relative: float
    ok: bool

    def __str__(self) -> str:
        verdict = "agrees" if self.ok else "DIFFERS"
        return f"{self.name}  max_abs {self.max_abs:.3g}  relative {self.relative:.3g}  {verdict}"


def compare_activations(
    folder: Path, recorded: Path, *, tolerance: float
) -> list[ActivationDifference]:
    """Runs the model of a checkpoint in float32 on recorded inputs.

    Args:
        folder: checkpoint of either kind; a PyTorch checkpoint runs with the published LP-Comp.
        recorded: .npz file as described in this module.
        tolerance: maximum difference relative to the largest recorded value of an array.

    Returns:
        One entry per recorded output, in the order of computation.

    Raises:
        ConversionError: the file lacks an input, or contains unknown arrays or wrong shapes.
        CheckpointError: the checkpoint cannot be read.
    """
    arrays = _read(recorded)
    if (folder / PARAMS_FOLDER).is_dir():
        model, params = load_params(folder, dtype=jnp.float32)
    else:
        model, params = load_torch_checkpoint(folder, dtype="float32")
    engine = Engine(dataclasses.replace(model, dtype="float32"), params)
    differences = []
    for name, output in _outputs(engine, arrays, recorded):
        expected = np.asarray(arrays[name], np.float64).reshape(-1, arrays[name].shape[-1])
        actual = np.asarray(output, np.float64).reshape(-1, output.shape[-1])
        if actual.shape != expected.shape:
            problem = f"{name!r} is {arrays[name].shape}, the model computes {output.shape}"
            raise ConversionError(str(recorded), [problem])
        gap, scale = float(np.abs(actual - expected).max()), float(np.abs(expected).max())
        relative = gap / scale if scale else gap
        differences.append(ActivationDifference(name, gap, relative, relative <= tolerance))
    return differences


def first_difference(differences: list[ActivationDifference]) -> str:
    """Formats the last line of a report, which names the first array outside the tolerance."""
    for entry in differences:
        if not entry.ok:
            return f"activations differ first at {entry.name}"
    return f"all {len(differences)} recorded activations agree"


def _read(path: Path) -> Arrays:
    try:
        # An open file object, because np.load leaves a path open when it rejects the content.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = dict(file)
    except (ValueError, TypeError, BadZipFile, EOFError) as error:
        raise ConversionError(str(path), [f"not a readable .npz file: {error}"]) from error
    problems = []
    for name in arrays:
        if name not in ARRAY_NAMES and not _LAYER.fullmatch(name):
            problems.append(
                f"unknown array {name!r}; known: {[*ARRAY_NAMES, 'hidden_after_layer_NN']}"
            )
    has_layers = any(_LAYER.fullmatch(name) or name in ARRAY_NAMES[-2:] for name in arrays)
    for inputs, required in (
        (("pixel_values",), bool({"features", "llm_embeds"} & arrays.keys())),
        (("input_ids", "visual_tokens"), has_layers),
    ):
        problems += [f"{name!r} is missing" for name in inputs if required and name not in arrays]
    if not has_layers and not {"features", "llm_embeds"} & arrays.keys():
        problems.append("contains no recorded output to compare with")
    if problems:
        raise ConversionError(str(path), problems)
    return arrays


def _outputs(engine: Engine, arrays: Arrays, recorded: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields names and values of the recorded outputs, in the order of computation."""
    if {"features", "llm_embeds"} & arrays.keys():
        pixels = np.moveaxis(np.asarray(arrays["pixel_values"], np.float32), 2, -1)
        features = engine.vision_features(pixels)
        if "features" in arrays:
            yield "features", np.asarray(features)
        if "llm_embeds" in arrays:
            yield "llm_embeds", np.asarray(engine.project_features(features))
    if "input_ids" in arrays:
        yield from _language_outputs(engine, arrays, recorded)


def _language_outputs(
    engine: Engine, arrays: Arrays, recorded: Path
) -> Iterator[tuple[str, np.ndarray]]:
    ids = np.asarray(arrays["input_ids"]).reshape(-1).astype(np.int32)
    mark_indices = np.flatnonzero(ids == PLACEHOLDER)
    if len(mark_indices) != 1:
        problem = f"'input_ids' contains {PLACEHOLDER} {len(mark_indices)} times, expected once"
        raise ConversionError(str(recorded), [problem])
    prefix, suffix = ids[None, : mark_indices[0]], ids[None, mark_indices[0] + 1 :]
    visual = np.asarray(arrays["visual_tokens"], np.float32)
    visual = visual.reshape(1, -1, visual.shape[-1])
    out, logits = engine.layer_outputs(prefix, visual, suffix)
    assert out.layers is not None
    layers = [np.asarray(layer[0]) for group in out.layers for layer in group]
    numbers = {int(match[1]): name for name in sorted(arrays) if (match := _LAYER.fullmatch(name))}
    if beyond := sorted(number for number in numbers if number >= len(layers)):
        problem = f"layers {beyond} are recorded, but the model has {len(layers)}"
        raise ConversionError(str(recorded), [problem])
    for number in sorted(numbers):
        yield numbers[number], layers[number]
    final = jnp.concatenate([out.prefix, out.visual, out.suffix], axis=1)[0]
    if "final_normed_hidden" in arrays:
        yield "final_normed_hidden", np.asarray(final)
    if "logits" in arrays:
        yield "logits", np.asarray(logits[0])
