"""Answering a prepared set by decoding, and counting what is right."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from xcomp_jax.config import ModelConfig, StageConfig
from xcomp_jax.data.pipeline import eval_batches
from xcomp_jax.data.prepared.dataset import PreparedDataset
from xcomp_jax.engine.generate import GenerationConfig, generate
from xcomp_jax.engine.programs import prefill
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.processes import is_first
from xcomp_jax.sharding import BATCH_AXES, batch_share, global_batch
from xcomp_jax.training.encoding import visual_tokens

# Nothing learns here: frames are encoded as in a stage that leaves the encoder alone.
_FROZEN = StageConfig(name="evaluation", num_steps=1, learning_rate=0.0, trainable=("llm",))


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
    mesh: Mesh,
    batch_size: int,
    label: str,
    progress: bool = True,
) -> Evaluation:
    """Greedy answers to every question of the set; an answer is right when its text is equal.

    All processes of a run call this and get the same counts; each reads its share of the rows.

    Args:
        batch_size: rounded up to a multiple of the devices of `mesh` that share a batch.
    """
    longest = max(len(row.tokens.answer_ids) for row in dataset.rows)
    generation = GenerationConfig(
        max_new_tokens=longest + 1,
        eos_token_ids=(tokenizer.convert_tokens_to_ids("<|im_end|>"),),
    )
    answer = _answering(config, generation, mesh)
    shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    batch_size = -(-batch_size // shards) * shards
    part, parts = batch_share(mesh)
    batches = eval_batches(dataset, batch_size=batch_size, process_index=part, process_count=parts)
    right: collections.Counter[str] = collections.Counter()
    asked: collections.Counter[str] = collections.Counter()
    for local in tqdm(
        batches,
        total=-(-len(dataset) // batch_size),
        desc=label,
        disable=not (progress and is_first()),
    ):
        out = jax.device_get(answer(params, global_batch(mesh, local)))
        for index, weight, ids, count in zip(
            out["index"], out["example_weight"], out["ids"], out["count"], strict=True
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


@functools.cache
def _answering(config: ModelConfig, generation: GenerationConfig, mesh: Mesh) -> Any:
    """`_answer`, compiled once for all evaluations of a run; every process gets all answers."""
    return jax.jit(
        functools.partial(_answer, XComp(config), generation),
        out_shardings=NamedSharding(mesh, PartitionSpec()),
    )


def _answer(
    model: XComp, generation: GenerationConfig, params: Params, batch: dict[str, Array]
) -> dict[str, Array]:
    """Token ids [B, M] and their counts [B], with what says whose they are."""
    tokens = visual_tokens(model, _FROZEN, params, batch)
    lengths = Lengths(
        prefix=batch["prefix_len"],
        visual=batch["num_frames"] * model.config.projector.tokens_per_frame,
        suffix=batch["suffix_len"],
    )
    logits, cache = prefill(
        model, params, batch["prefix_ids"], tokens, batch["suffix_ids"], lengths
    )
    out = generate(model, params, logits, cache, generation)
    named = {name: batch[name] for name in ("index", "example_weight")}
    return {"ids": out.ids, "count": out.count, **named}


def text_only_accuracy(dataset: PreparedDataset) -> float:
    """What the best constant answer to each question text would reach: chance, without the
    video."""
    answers: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for row in dataset.rows:
        answers[row.question][row.answer] += 1
    return sum(max(counts.values()) for counts in answers.values()) / len(dataset)
