"""One layer of Qwen2. The caller supplies attention: for training, over a cache, or for scoring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from xcomp_jax.config import LLMConfig
from xcomp_jax.models.quantized import dequantize, scale_name
from xcomp_jax.models.rms_norm import RMSNorm
from xcomp_jax.ops.heads import project_from_heads, project_to_heads

# (query, key, value), all before rotation -> (attention output, state for the caller)
Attend = Callable[[Array, Array, Array], tuple[Array, Any]]


def _adapted(module: nn.Module, name: str, x: Array, out: Array) -> Array:
    """Adds the low-rank update of projection `name` of `x` to `out`, if there is an adapter.

    Adapters are variables of the collection `lora`: a [in, rank] and b [rank, out].
    """
    if (pair := _adapter(module, name, x.dtype)) is None:
        return out
    a, b = pair
    return out + (x @ a) @ b


def _adapter(module: nn.Module, name: str, dtype: jnp.dtype) -> tuple[Array, Array] | None:
    if not module.has_variable("lora", name):
        return None
    pair: dict[str, Array] = module.get_variable("lora", name)
    return pair["a"].astype(dtype), pair["b"].astype(dtype)


class DenseParams(nn.Module):
    """Declares the parameters of `nn.Dense`, for products that it has no form for.

    An int8 kernel has scales beside it (`quantized`) and is dequantised.
    """

    features: int
    use_bias: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: int) -> tuple[Float[Array, "D F"], Float[Array, " F"] | None]:
        """Returns kernel and bias for an input of `inputs` features, in `dtype`."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (inputs, self.features))
        if self.has_variable("params", scale_name("kernel")):
            scale: Array = self.get_variable("params", scale_name("kernel"))
            kernel = dequantize(kernel, scale, -2, self.dtype)
        kernel = kernel.astype(self.dtype)
        if not self.use_bias:
            return kernel, None
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return kernel, bias.astype(self.dtype)


class SelfAttention(nn.Module):
    """Grouped-query attention; biases on q, k and v only."""

    config: LLMConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "B S D"], attend: Attend
    ) -> tuple[Float[Array, "B S D"], Any]:
        """Returns the attention output and the state that `attend` returns."""
        cfg = self.config

        def heads(name: str, count: int) -> Array:
            params = DenseParams(count * cfg.head_dim, True, self.dtype, name=name)
            kernel, bias = params(cfg.hidden_size)
            out = project_to_heads(x, kernel, count, bias)
            if (pair := _adapter(self, name, self.dtype)) is None:
                return out
            return out + project_to_heads(x @ pair[0], pair[1], count)

        out, state = attend(
            heads("q_proj", cfg.num_attention_heads),
            heads("k_proj", cfg.num_key_value_heads),
            heads("v_proj", cfg.num_key_value_heads),
        )
        kernel, _ = DenseParams(cfg.hidden_size, False, self.dtype, name="o_proj")(cfg.hidden_size)
        projected = project_from_heads(out, kernel)
        return _adapted(self, "o_proj", out.reshape(x.shape), projected), state


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), without biases."""

    config: LLMConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B S D"]) -> Float[Array, "B S D"]:
        """Applies the gated MLP."""

        def dense(size: int, name: str, x: Array) -> Array:
            kernel, _ = DenseParams(size, False, self.dtype, name=name)(x.shape[-1])
            return _adapted(self, name, x, x @ kernel)

        hidden = self.config.intermediate_size
        gated = nn.silu(dense(hidden, "gate_proj", x)) * dense(hidden, "up_proj", x)
        return dense(self.config.hidden_size, "down_proj", gated)


class DecoderLayer(nn.Module):
    """Pre-norm attention and MLP."""

    config: LLMConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "B S D"], attend: Attend
    ) -> tuple[Float[Array, "B S D"], Any]:
        """Returns the hidden states and the state that `attend` returns."""
        cfg = self.config
        normed = RMSNorm(cfg.rms_norm_eps, self.dtype, name="input_layernorm")(x)
        out, state = SelfAttention(cfg, self.dtype, name="self_attn")(normed, attend)
        x = x + out
        normed = RMSNorm(cfg.rms_norm_eps, self.dtype, name="post_attention_layernorm")(x)
        return x + SwiGLU(cfg, self.dtype, name="mlp")(normed), state
