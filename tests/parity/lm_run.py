"""Runs a recorded language-model case, for the comparisons of prefill and decoding."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.parity.cases import Case, assert_parity
from tests.parity.recorded_model import exact_lengths, flat_visual, layer_of, split_ids
from xcomp_jax.compression.schedule import LayerGroup, plan_layer_groups
from xcomp_jax.engine.generate import Generated, generate
from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.models import apply
from xcomp_jax.models.decoder_state import PrefillOutput
from xcomp_jax.models.sequence import Layout, Lengths
from xcomp_jax.models.xcomp import Params, XComp

# The recordings include their float32-against-float64 distance. Two float32 programs with different
# summation orders each have that distance from the exact result, at different elements. The
# tolerance is twice the sum of both.
NOISE_FACTOR = 4


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Token ids around the video and its visual tokens, all with batch 1."""

    prefix: np.ndarray
    visual: np.ndarray
    suffix: np.ndarray
    position_offset: int = 0
    """Control: offset of the positions after the first text."""

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], name: str = "") -> Inputs:
        prefix, suffix = split_ids(arrays[f"{name}input_ids"])
        return cls(prefix, flat_visual(arrays[f"{name}visual_tokens"]), suffix)

    @property
    def lengths(self) -> Lengths:
        lengths = exact_lengths(self.prefix, self.visual, self.suffix)
        return lengths.replace(prefix=lengths.prefix + self.position_offset)

    def one_position_off(self) -> Inputs:
        """Control: a gap of one position between the first text and the video."""
        return dataclasses.replace(self, position_offset=1)

    def other_survivors(self) -> Inputs:
        """Control: visual tokens reversed, so that compression keeps the first of each frame."""
        return dataclasses.replace(self, visual=self.visual[:, ::-1])


@functools.partial(jax.jit, static_argnames="model")
def _prefill(
    model: XComp, params: Params, prefix: Any, visual: Any, suffix: Any, lengths: Lengths
) -> tuple[PrefillOutput, jax.Array]:
    out = apply.prefill(
        model, params, prefix, visual, suffix, lengths, keep_cache=True, collect_layers=True
    )
    rows = jnp.concatenate([out.prefix, out.visual, out.suffix], axis=1)
    return out, apply.logits(model, params, rows)


@dataclasses.dataclass(frozen=True)
class Run:
    """Results with the batch dimension removed; layers count from 0."""

    model: XComp
    params: Params
    out: PrefillOutput
    logits: np.ndarray
    group_of_layer: tuple[int, ...]
    place_in_group: tuple[int, ...]

    def hidden_after_layer(self, layer: int) -> np.ndarray:
        assert self.out.layers is not None
        group = self.out.layers[self.group_of_layer[layer]]
        return np.asarray(group[self.place_in_group[layer], 0])

    def cached(self, layer: int, which: str) -> np.ndarray:
        """Returns keys ("k") or values ("v") of a layer, [K, S, H] as recorded."""
        assert self.out.cache is not None
        group = self.out.cache[self.group_of_layer[layer]]
        array = group.key if which == "k" else group.value
        return np.moveaxis(np.asarray(array[self.place_in_group[layer], 0]), 0, 1)

    @property
    def kv_length(self) -> list[int]:
        assert self.out.cache is not None
        return [int(self.out.cache[group].length[0]) for group in self.group_of_layer]

    def generate(self, max_new_tokens: int, penalty: float = 1.0) -> Generated:
        assert self.out.cache is not None
        config = GenerationConfig(max_new_tokens=max_new_tokens, repetition_penalty=penalty)
        return generate(
            self.model, self.params, self.logits[None, -1], self.out.cache, config, record=True
        )


def run_prefill(model: XComp, params: Params, inputs: Inputs) -> Run:
    out, logits = _prefill(
        model, params, inputs.prefix, inputs.visual, inputs.suffix, inputs.lengths
    )
    layer_groups = layer_groups_of(model)
    pairs = [
        (number, i) for number, group in enumerate(layer_groups) for i in range(group.num_layers)
    ]
    return Run(
        model=model,
        params=params,
        out=out,
        logits=np.asarray(logits[0]),
        group_of_layer=tuple(group for group, _ in pairs),
        place_in_group=tuple(place for _, place in pairs),
    )


def layer_groups_of(model: XComp) -> tuple[LayerGroup, ...]:
    """Returns the layer groups of the model's decoder."""
    config = model.config
    return plan_layer_groups(
        config.compression,
        num_layers=config.llm.num_hidden_layers,
        tokens_per_frame=config.projector.tokens_per_frame,
    )


def positions_by_layer(model: XComp, inputs: Inputs) -> list[np.ndarray]:
    """Computes the rotary positions of the sequence in every layer."""
    positions, lengths = [], inputs.lengths
    for group in layer_groups_of(model):
        if group.drop is not None:
            lengths = lengths.replace(visual=group.visual_length(lengths.visual))
        layout = Layout(
            *(int(part[0]) for part in (lengths.prefix, lengths.visual, lengths.suffix))
        )
        positions += [np.asarray(layout.positions(lengths)[0])] * group.num_layers
    return positions


def logit_noise(entry: dict) -> float:
    return NOISE_FACTOR * entry["logits_max_abs_diff_vs_float64"]


def check_hidden_layers(case: Case, run: Run, control: Run, prefix: str, noise) -> None:
    for name, want in case.io.matching(rf"{prefix}hidden_after_layer_\d+").items():
        layer = layer_of(name)
        assert_parity(
            run.hidden_after_layer(layer),
            want,
            atol=NOISE_FACTOR * noise(layer),
            control=control.hidden_after_layer(layer),
        )


def check_generation(case: Case, run: Run, control: Run, prefix: str, tolerance: float) -> None:
    """Compares greedy ids and positions exactly, logits of every step within `tolerance`."""
    want = case.io[f"{prefix}generated_ids"]
    got, wrong = run.generate(len(want)), control.generate(len(want))
    np.testing.assert_array_equal(got.ids[0], want)
    assert_parity(
        got.logits[0], case.io[f"{prefix}step_logits"], atol=tolerance, control=wrong.logits[0]
    )
    positions = np.array(run.kv_length)[None, :] - 1 + np.arange(len(want))[:, None]
    np.testing.assert_array_equal(positions, case.io[f"{prefix}position_id_last_token"])
