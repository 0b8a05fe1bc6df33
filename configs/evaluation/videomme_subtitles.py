"""Video-MME with all subtitles in the prompt: `videomme_w_subtitle` of the original's harness."""

from ml_collections import ConfigDict

from xcomp_jax.configs.evaluation.common import choose, vcf


def get_config(system: str = "published") -> ConfigDict:
    """The published numbers with subtitles are those of larger models, so that none is listed."""
    protocol = vcf("videomme", subtitles=True)
    return choose(system, {"published": protocol, "vcf": protocol})
