"""The 2B recipe on the 7B base with the same encoder; not published; rates and steps are the 2B's.

xcomp convert from-torch VideoChat-Flash-Qwen2-7B_res448 checkpoints/base-7b
xcomp tune --config configs/xcomp_7b.py --workdir runs/xcomp-7b
"""

from ml_collections import ConfigDict

from xcomp_jax.config import to_dict
from xcomp_jax.configs import xcomp_2b
from xcomp_jax.variants import XCOMP_7B


def get_config() -> ConfigDict:
    """Returns the 2B experiment with the 7B model and base."""
    config = xcomp_2b.get_config()
    config.name = "xcomp_7b"
    config.model = ConfigDict(to_dict(XCOMP_7B))
    config.data.tokenizer = "Qwen/Qwen2-7B-Instruct"
    config.init_from = "checkpoints/base-7b"
    return config
