"""List the pods of the preflight table."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One check of the table.

    Attributes:
        config: name of a configuration in configs/.
        mesh: mesh axes that replace the configuration's, as `--mesh` takes them.
    """

    config: str
    topology: str
    mesh: str | None = None
    frames: int = 1024

    def arguments(self) -> list[str]:
        """Returns the arguments of `xcomp preflight`."""
        return [
            *("--config", self.config, "--topology", self.topology),
            *("--frames", str(self.frames)),
            *(() if self.mesh is None else ("--mesh", self.mesh)),
        ]


# Every row trains with the published batch of 32. The configurations choose a mesh by themselves,
# except for 4,096 frames, where more devices share a video than they would choose.
ROWS = {
    "v5e": Row(config="xcomp_2b", topology="v5e:4x4"),
    "v5p": Row(config="xcomp_2b", topology="v5p:4x4x4"),
    "v6e": Row(config="xcomp_2b", topology="v6e:16x16"),
    "h100": Row(config="xcomp_2b", topology="h100:8"),
    "v5p_4096": Row(config="xcomp_2b", topology="v5p:4x4x4", mesh="fsdp=16,context=4", frames=4096),
    "v5p_7b": Row(config="xcomp_7b", topology="v5p:4x4x4"),
}
