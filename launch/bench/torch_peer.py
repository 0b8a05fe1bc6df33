"""Times the encoder's parts in PyTorch; run as a file by an interpreter that has it.

    python torch_peer.py block 6272 1024 16

Prints the CPU seconds of one run as JSON after a first run that does not count.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

torch: Any = importlib.import_module("torch")
functional: Any = torch.nn.functional


def block(tokens: int, width: int, heads: int) -> Callable[[], Any]:
    """Returns a pre-norm block with full attention and the exact GELU over one clip."""
    x = torch.randn(1, tokens, width)
    matrices = [
        torch.randn(out, size) / size**0.5
        for out, size in (
            (3 * width, width),
            (width, width),
            (4 * width, width),
            (width, 4 * width),
        )
    ]
    biases = [torch.zeros(matrix.shape[0]) for matrix in matrices]
    scale, bias = torch.ones(width), torch.zeros(width)

    def run() -> Any:
        normed = functional.layer_norm(x, (width,), scale, bias)
        qkv = functional.linear(normed, matrices[0], biases[0])
        query, key, value = qkv.view(1, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
        out = functional.scaled_dot_product_attention(query, key, value)
        out = out.transpose(1, 2).reshape(1, tokens, width)
        hidden = x + functional.linear(out, matrices[1], biases[1])
        normed = functional.layer_norm(hidden, (width,), scale, bias)
        wide = functional.gelu(functional.linear(normed, matrices[2], biases[2]))
        return hidden + functional.linear(wide, matrices[3], biases[3])

    return run


def merging(tokens: int, width: int, heads: int, target: int) -> Callable[[], Any]:
    """Returns token merging of one clip by bipartite matching, as in `models.tome`."""
    features = torch.randn(tokens, width)

    def run() -> Any:
        x, size = features, torch.ones(tokens, 1)
        while x.shape[0] > target:
            merged = min(x.shape[0] - target, x.shape[0] // 2)
            metric = functional.normalize(x.view(x.shape[0], heads, -1).mean(1), dim=-1)
            most, best = (metric[0::2] @ metric[1::2].T).max(-1)
            order = torch.argsort(most, descending=True)
            joined, unmerged = order[:merged], order[merged:]
            weighted = x * size
            total = weighted[1::2].index_add(0, best[joined], weighted[0::2][joined])
            sizes = size[1::2].index_add(0, best[joined], size[0::2][joined])
            size = torch.cat([size[0::2][unmerged], sizes])
            x = torch.cat([weighted[0::2][unmerged], total]) / size
        return x

    return run


def main() -> None:
    name, *sizes = sys.argv[1:]
    if name == "version":
        print(json.dumps({"version": torch.__version__}))
        return
    parts: dict[str, Callable[..., Callable[[], Any]]] = {"block": block, "merging": merging}
    run = parts[name](*map(int, sizes))
    with torch.inference_mode():
        run()
        began = time.process_time()
        run()
        spent = time.process_time() - began
    print(json.dumps({"version": torch.__version__, "cpu_s": spent}))


if __name__ == "__main__":
    main()
