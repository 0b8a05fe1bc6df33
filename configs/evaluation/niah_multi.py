"""Multi-hop needle in a haystack: a chain of seven images, two questions each."""

import dataclasses

from ml_collections import ConfigDict

from xcomp_jax.config import SamplingConfig
from xcomp_jax.configs.evaluation.common import choose, published_score, vcf, xcomp_selection

# Average over 2,000 to 10,000 frames, of the question about the last image.
NEEDLES = "arXiv 2604.14149, multi-hop needle in a haystack"

PUBLISHED = (
    published_score("XComp-2B", 72.2, 0, NEEDLES, "kind=question"),
    published_score("VideoChat-Flash-2B with selection", 72.6, 0, NEEDLES, "kind=question"),
)


def get_config(system: str = "published") -> ConfigDict:
    """The published run of XComp selects one frame, with 8 repeats."""
    base = vcf(
        "niah_multi",
        time_message=False,
        sampling=SamplingConfig(fps=1, min_frames=64, max_frames=10_000),
        yarn_factor=4.0,  # `xtuner-eval_niah/README.md` of VideoChat-Flash
        dtype="bfloat16",
        published=PUBLISHED,
    )
    published = dataclasses.replace(
        base,
        system="XComp-2B",
        compression="checkpoint",
        # No time message comes before the question, so that no text is left out of the query.
        selection=dataclasses.replace(xcomp_selection(1, repeats=8), query_bias=0),
        not_pinned=(
            "all: one frame and 8 repeats are the paper's text; no script is public",
            "query_bias: 27 elsewhere, for the time message, which this prompt does not have",
        ),
    )
    return choose(system, {"published": published, "vcf": base})
