"""TempCompass, multiple choice; neither paper reports it for the 2B models."""

from ml_collections import ConfigDict

from xcomp_jax.configs.evaluation.common import choose, vcf


def get_config(system: str = "published") -> ConfigDict:
    protocol = vcf("tempcompass")
    return choose(system, {"published": protocol, "vcf": protocol})
