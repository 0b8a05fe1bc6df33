"""Answers a prepared set greedily and counts correct answers."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import Any

import numpy as np
from jax import Array
from jax.sharding import Mesh

from xcomp_jax.config import ModelConfig
from xcomp_jax.data.pipeline import eval_batches
from xcomp_jax.data.prepared.dataset import PreparedDataset
from xcomp_jax.engine.engine import Engine
from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.engine.programs import on_every_host
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import Params
from xcomp_jax.processes import is_first
from xcomp_jax.sharding import BATCH_AXES, batch_share, global_batch
from xcomp_jax.terminal.progress import ProgressBar


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Counts of correct answers and questions; the fields are keys of evaluation_LABEL.json.

    right: number of correct answers; asked: number of questions.
    by_kind: (right, asked) of each kind of question.
    """

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
    """Answers every question of the set greedily; an answer is correct if its text is equal.

    Every process of a run must call this; each reads its share of the rows, and all return the
    same counts.

    Args:
        batch_size: questions per batch, rounded up to a multiple of the devices that share it.
        label: name on the progress bar.
    """
    longest = max(len(row.tokens.answer_ids) for row in dataset.rows)
    generation = GenerationConfig(
        max_new_tokens=longest + 1,
        eos_token_ids=(tokenizer.convert_tokens_to_ids("<|im_end|>"),),
    )
    engine = Engine(config, params, mesh=mesh)
    shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    batch_size = -(-batch_size // shards) * shards
    part, parts = batch_share(mesh)
    batches = eval_batches(dataset, batch_size=batch_size, process_index=part, process_count=parts)
    correct: collections.Counter[str] = collections.Counter()
    questions: collections.Counter[str] = collections.Counter()
    for local in ProgressBar(
        batches,
        total=-(-len(dataset) // batch_size),
        desc=label,
        disable=not (progress and is_first()),
    ):
        out = _answer(engine, generation, global_batch(mesh, local))
        for index, weight, ids, count in zip(
            out["index"], out["example_weight"], out["ids"], out["count"], strict=True
        ):
            if weight:
                row = dataset.rows[index]
                text = tokenizer.decode(ids[:count], skip_special_tokens=True).strip()
                questions[row.kind] += 1
                correct[row.kind] += text == row.answer
    return Evaluation(
        right=correct.total(),
        asked=questions.total(),
        by_kind={kind: (correct[kind], questions[kind]) for kind in sorted(questions)},
    )


def _answer(
    engine: Engine, generation: GenerationConfig, batch: dict[str, Array]
) -> dict[str, np.ndarray]:
    """Returns token ids [B, M] and counts [B] of the answers, with the rows of the set."""
    lengths = Lengths(
        prefix=batch["prefix_len"],
        visual=batch["num_frames"] * engine.config.projector.tokens_per_frame,
        suffix=batch["suffix_len"],
    )
    visual = engine.encode_batch(batch)
    state = engine.prefill_batch(batch["prefix_ids"], visual, batch["suffix_ids"], lengths)
    generated = engine.generate(state, generation)
    rows = {name: batch[name] for name in ("index", "example_weight")}
    answers = {"ids": generated.ids, "count": generated.count}
    with engine.placement.scope():
        return {name: np.asarray(x) for name, x in {**answers, **on_every_host(rows)}.items()}


def text_only_accuracy(dataset: PreparedDataset) -> float:
    """Returns chance level, the accuracy of the best constant answer to each question text."""
    answers: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for row in dataset.rows:
        answers[row.question][row.answer] += 1
    return sum(max(counts.values()) for counts in answers.values()) / len(dataset)
