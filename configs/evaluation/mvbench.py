"""MVBench, 20 tasks of 200 questions; XComp's paper does not report it."""

from ml_collections import ConfigDict

from xcomp_jax.configs.evaluation.common import VCF_README, choose, published_score, vcf

PUBLISHED = (
    published_score("VideoChat-Flash-2B", 70.0, 4000, VCF_README),
    published_score(
        "same data as XComp, no compression, 512 frames",
        68.2,
        4000,
        "XComp: [Deprecated] dev_scripts/baseline_1000frame/baseline2_log/mvbench.log",
    ),
)


def get_config(system: str = "published") -> ConfigDict:
    protocol = vcf("mvbench", published=PUBLISHED)
    return choose(system, {"published": protocol, "vcf": protocol})
