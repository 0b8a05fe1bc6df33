"""PerceptionTest validation, 19,140 questions; XComp's paper does not report it."""

from ml_collections import ConfigDict

from xcomp_jax.configs.evaluation.common import VCF_README, choose, published_score, vcf

PUBLISHED = (published_score("VideoChat-Flash-2B", 70.5, 19140, VCF_README),)


def get_config(system: str = "published") -> ConfigDict:
    """The task's file sets no length of answers; the harness then allows 1,024 tokens."""
    protocol = vcf("perceptiontest", max_new_tokens=1024, published=PUBLISHED)
    return choose(system, {"published": protocol, "vcf": protocol})
