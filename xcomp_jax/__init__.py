"""XComp in JAX: long-video question answering with one token per selected frame.

    import xcomp_jax

    session = xcomp_jax.from_pretrained("checkpoints/xcomp-2b")
    video = session.encode_video("film.mp4", num_frames=1024)
    print(session.ask(video, "Who arrives first?").text)

The names in `__all__` are the public interface (docs/library.md); each is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xcomp_jax.checkpoint import load_params as load_params
    from xcomp_jax.config import ModelConfig as ModelConfig
    from xcomp_jax.config import SamplingConfig as SamplingConfig
    from xcomp_jax.config import SelectionConfig as SelectionConfig
    from xcomp_jax.engine.generation_config import GenerationConfig as GenerationConfig
    from xcomp_jax.inference.save_model import save_pretrained as save_pretrained
    from xcomp_jax.inference.session import Session as Session
    from xcomp_jax.models.xcomp import XComp as XComp
    from xcomp_jax.models.xcomp import init_params as init_params
    from xcomp_jax.pretrained import from_pretrained as from_pretrained
    from xcomp_jax.token_store import TokenStore as TokenStore

__version__ = "0.1.0"

_MODULES = {
    "from_pretrained": "pretrained",
    "save_pretrained": "inference.save_model",
    "load_params": "checkpoint",
    "init_params": "models.xcomp",
    "XComp": "models.xcomp",
    "Session": "inference.session",
    "CompressionConfig": "config",
    "ModelConfig": "config",
    "SamplingConfig": "config",
    "SelectionConfig": "config",
    "GenerationConfig": "engine.generation_config",
    "TokenStore": "token_store",
}

__all__ = [
    "CompressionConfig",
    "GenerationConfig",
    "ModelConfig",
    "SamplingConfig",
    "SelectionConfig",
    "Session",
    "TokenStore",
    "XComp",
    "from_pretrained",
    "init_params",
    "load_params",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    """Imports a public name on first use, to keep `import xcomp_jax` fast."""
    if name not in _MODULES:
        raise AttributeError(f"module 'xcomp_jax' has no attribute {name!r}; it has {__all__}")
    value = getattr(importlib.import_module(f"xcomp_jax.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
