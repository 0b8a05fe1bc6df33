"""Single-hop needle in a haystack of 1,000 to 10,000 frames, 1,200 questions."""

from ml_collections import ConfigDict

from xcomp_jax.config import PublishedScore, SamplingConfig
from xcomp_jax.configs.evaluation.common import VCF_README, choose, vcf

PUBLISHED = (
    PublishedScore(
        system="VideoChat-Flash-7B", percent=99.1, source=VCF_README, metric="macro", questions=1200
    ),
)


def get_config(system: str = "published") -> ConfigDict:
    """The whole haystack is encoded at 1 frame per second; the prompt has no time message."""
    protocol = vcf(
        "niah_single",
        time_message=False,
        sampling=SamplingConfig(fps=1, min_frames=64, max_frames=10_000),
        yarn_factor=4.0,  # `xtuner-eval_niah/README.md` of VideoChat-Flash
        dtype="bfloat16",
        published=PUBLISHED,
    )
    return choose(system, {"published": protocol, "vcf": protocol})
