"""How one tensor of the original lies in ours: axes of length one leave, the others are reordered.

Both directions are views of the same numbers, so a round trip is exact by construction.
"""

from __future__ import annotations

import dataclasses

import numpy as np

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """`target = transpose(squeeze(source, drop), order)`; `order=None` keeps the order."""

    drop: tuple[int, ...] = ()
    order: tuple[int, ...] | None = None

    def to_target(self, source: np.ndarray) -> np.ndarray:
        """View of `source` with our axes."""
        squeezed = np.squeeze(source, self.drop)
        return squeezed if self.order is None else squeezed.transpose(self.order)

    def to_source(self, target: np.ndarray) -> np.ndarray:
        """View of `target` with the original's axes."""
        if self.order is not None:
            target = target.transpose(np.argsort(self.order))
        return np.expand_dims(target, self.drop)

    def source_shape(self, target_shape: Shape) -> Shape:
        """Shape the original must have for ours to have `target_shape`."""
        return self.to_source(np.broadcast_to(np.uint8(0), target_shape)).shape


COPY = Layout()
# torch keeps [out, in]; a Flax kernel is [in, out].
LINEAR = Layout(order=(1, 0))
# Conv3d [C, 3, 1, p, p], one frame deep -> [p, p, 3, C].
PATCH = Layout(drop=(2,), order=(2, 3, 1, 0))
# One token and one table of positions with leading axes of length one.
TOKEN = Layout(drop=(0, 1))
POSITIONS = Layout(drop=(0,))
