"""List the topologies that exist. Compilers also describe others, such as a v5e of 4x4x4 chips."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class Topologies:
    """The sizes of which a machine can be rented or built.

    accept: returns True for sizes that exist. description: text that lists them.
    """

    accept: Callable[[Sequence[int]], bool]
    description: str


_PLANES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_SMALL_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")
_LARGEST_CUBE = (16, 16, 24)
_GPUS_PER_HOST = 8


def _text(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def _is_cube(sizes: Sequence[int]) -> bool:
    """Returns True for 3D tori, whose large sizes are multiples of a cube of 4x4x4 chips."""
    return _text(sizes) in _SMALL_CUBES or (
        len(sizes) == 3
        and list(sizes) == sorted(sizes)
        and all(
            size % 4 == 0 and 0 < size <= most
            for size, most in zip(sizes, _LARGEST_CUBE, strict=True)
        )
    )


def _is_cluster(sizes: Sequence[int]) -> bool:
    return len(sizes) in (1, 2) and 1 <= sizes[-1] <= _GPUS_PER_HOST and sizes[0] >= 1


PLANES = Topologies(lambda sizes: _text(sizes) in _PLANES, ", ".join(_PLANES))
CUBES = Topologies(
    _is_cube,
    f"{', '.join(_SMALL_CUBES)}, and AxBxC with A <= B <= C, multiples of 4 up to "
    f"{_text(_LARGEST_CUBE)}, such as 4x4x4 or 4x4x8",
)
CLUSTERS = Topologies(
    _is_cluster, f"DEVICES or HOSTSxDEVICES with at most {_GPUS_PER_HOST} devices per host"
)
