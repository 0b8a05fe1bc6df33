"""Answering a prepared set by decoding, and counting what is right."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import jax
from tqdm import tqdm

from xcomp_jax.config import ModelConfig
from xcomp_jax.data.dataset import PreparedDataset
from xcomp_jax.data.pipeline import eval_batches
from xcomp_jax.inference.generate import GenerationConfig, generate
from xcomp_jax.inference.programs import encode_some, prefill
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import Params, XComp


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Counts, never averages of averages; `by_kind` maps a kind to (right, asked)."""

    right: int
    asked: int
    by_kind: dict[str, tuple[int, int]]

    @property
    def accuracy(self) -> float:
        return self.right / self.asked


def evaluate(
    config: ModelConfig,
    params: Params,
    dataset: PreparedDataset,
    tokenizer: Any,
    *,
    batch_size: int,
    label: str,
    progress: bool = True,
) -> Evaluation:
    """Greedy answers to every question of the set; an answer is right when its text is equal."""
    model = XComp(config)
    longest = max(len(row.tokens.answer_ids) for row in dataset.rows)
    generation = GenerationConfig(
        max_new_tokens=longest + 1,
        eos_token_ids=(tokenizer.convert_tokens_to_ids("<|im_end|>"),),
    )
    right: collections.Counter[str] = collections.Counter()
    asked: collections.Counter[str] = collections.Counter()
    batches = eval_batches(dataset, batch_size=batch_size)
    for batch in tqdm(
        batches, total=-(-len(dataset) // batch_size), desc=label, disable=not progress
    ):
        out = _answer(model, params, batch, generation)
        for index, weight, ids, count in zip(
            batch["index"], batch["example_weight"], out.ids, out.count, strict=True
        ):
            if weight:
                row = dataset.rows[index]
                text = tokenizer.decode(ids[:count], skip_special_tokens=True).strip()
                asked[row.kind] += 1
                right[row.kind] += text == row.answer
    return Evaluation(
        right=right.total(),
        asked=asked.total(),
        by_kind={kind: (right[kind], asked[kind]) for kind in sorted(asked)},
    )


def _answer(
    model: XComp, params: Params, batch: dict[str, Any], generation: GenerationConfig
) -> Any:
    config = model.config
    frames = batch["frames"]
    clips = frames.reshape(-1, config.vision.clip_frames, *frames.shape[2:])
    tokens = encode_some(model, params, clips)
    lengths = Lengths(
        prefix=batch["prefix_len"],
        visual=batch["num_frames"] * config.projector.tokens_per_frame,
        suffix=batch["suffix_len"],
    )
    logits, cache = prefill(
        model,
        params,
        batch["prefix_ids"],
        tokens.reshape(len(frames), -1, tokens.shape[-1]),
        batch["suffix_ids"],
        lengths,
    )
    return jax.device_get(generate(model, params, logits, cache, generation))


def text_only_accuracy(dataset: PreparedDataset) -> float:
    """What the best constant answer to each question text would reach: chance, without the
    video."""
    answers: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for row in dataset.rows:
        answers[row.question][row.answer] += 1
    return sum(max(counts.values()) for counts in answers.values()) / len(dataset)
