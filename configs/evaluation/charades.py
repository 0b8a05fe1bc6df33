"""Charades-STA, 3,720 captions; XComp's paper does not report it."""

from ml_collections import ConfigDict

from xcomp_jax.config import PublishedScore
from xcomp_jax.configs.evaluation.common import VCF_README, choose, vcf

PUBLISHED = (
    PublishedScore(
        system="VideoChat-Flash-7B@448",
        percent=48.4,
        source=f"{VCF_README}: a figure, which fits the mean overlap",
        metric="miou",
        questions=3720,
    ),
)


def get_config(system: str = "published") -> ConfigDict:
    # 50 tokens: `lmms_eval/tasks/temporal_grounding/_default_template.yaml`.
    protocol = vcf("charades", max_new_tokens=50, published=PUBLISHED)
    return choose(system, {"published": protocol, "vcf": protocol})
