"""Registers the model `xcomp_jax` in lmms-eval, by the entry point `lmms_eval.models`."""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """Returns the `ModelManifest` of the model; lmms-eval imports the class when it is chosen."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        model_id="xcomp_jax", chat_class_path="xcomp_jax.evaluation.lmms_eval_model.XCompJax"
    )
