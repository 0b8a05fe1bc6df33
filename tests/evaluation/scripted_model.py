"""A checkpoint whose answer to every question is known."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tests.tiny import TINY, tiny_params
from xcomp_jax.checkpoint import save_params
from xcomp_jax.text.tokenizer import load_tokenizer

CONFIG = dataclasses.replace(
    TINY, llm=dataclasses.replace(TINY.llm, tie_word_embeddings=False, num_hidden_layers=2)
)


def write_scripted_model(folder: Path, answer: str) -> Path:
    """Writes a model that generates `answer`, of distinct tokens, whatever video and prompt are.

    Its decoder layers add nothing, so that the next token depends on the last one alone.
    """
    tokenizer = load_tokenizer(None)
    ids = [tokenizer(text)["input_ids"] for text in ("\n", answer)]
    chain = [*ids[0], *ids[1], tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert len(set(chain)) == len(chain) <= CONFIG.llm.hidden_size
    params: dict[str, Any] = jax.tree.map(np.array, tiny_params(CONFIG))
    llm = params["llm"]
    llm["layers"] = jax.tree.map(np.zeros_like, llm["layers"])
    llm["norm"]["scale"][:] = 1
    table, head = llm["embed_tokens"]["embedding"], llm["lm_head"]["kernel"]
    table[:], head[:] = 0, 0
    for channel, (token, following) in enumerate(itertools.pairwise(chain)):
        table[token, channel] = 1
        head[channel, following] = 1
    save_params(folder, CONFIG, params, tokenizer=tokenizer)
    return folder
