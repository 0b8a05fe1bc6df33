"""Print the memory of a training step with and without remat, with layer groups of one layer.

python -m tests.launch.remat_program v5e:4x4
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from xcomp_jax.launch.preflight.environment import ENVIRONMENT

CONFIG = Path(__file__).parents[2] / "configs" / "xcomp_2b.py"
FIELDS = (
    "accumulate_steps=2",
    "compression.schedule=stepwise",
    "compression.drop_after_layers=(1, 2)",
    "compression.strides=(2, 2)",
)


def temporary_bytes(topology: str) -> dict[str, int]:
    """Returns the temporary bytes of the step, by the value of remat."""
    from xcomp_jax.config import MeshConfig
    from xcomp_jax.experiment import load_experiment
    from xcomp_jax.launch.preflight.estimate import estimate
    from xcomp_jax.launch.preflight.pods import describe
    from xcomp_jax.launch.preflight.training import Sizes, step_program
    from xcomp_jax.sharding import make_mesh

    pod = describe(topology)
    mesh = make_mesh(MeshConfig(), pod.devices)
    sizes = Sizes(frames=1024, prefix=16, suffix=2032, encoded=True)
    results = {}
    for remat in (True, False):
        fields = [f"stages.0.{field}" for field in (*FIELDS, f"remat={remat}")]
        config = load_experiment(CONFIG, ["model.llm.num_hidden_layers=3", *fields])
        stage = config.stages[0]
        program = step_program(config.stage_model(stage), stage, mesh, sizes)
        step = estimate(program, pod, mesh)
        assert step.memory is not None, step.refusal
        results[str(remat)] = step.memory.temporary
    return results


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    json.dump(temporary_bytes(sys.argv[1]), sys.stdout)
