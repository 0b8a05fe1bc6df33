"""MLVU dev, multiple choice, 2,175 questions. The published numbers are means over questions."""

from ml_collections import ConfigDict

from xcomp_jax.config import PublishedScore
from xcomp_jax.configs.evaluation.common import (
    ABLATION,
    VCF,
    XCOMP,
    choose,
    published_score,
    vcf,
    xcomp,
    xcomp_selection,
)

LOG = "XComp: my_scripts_XComp/mlvu_256_from_1024_dp2.log"

PUBLISHED = (
    published_score("XComp-2B", 66.7, 2175, f"{XCOMP}; {LOG}"),
    # Mean of the seven task accuracies in the same log.
    PublishedScore(system="XComp-2B", percent=64.0, source=LOG, metric="macro", questions=2175),
    published_score("XComp-2B, global scores", 66.3, 2175, ABLATION),
    published_score("XComp-2B, LP-Comp only", 65.2, 2175, ABLATION),
    published_score("VideoChat-Flash-2B", 65.7, 2175, VCF),
    *(
        published_score("XComp-2B", percent, count, LOG, f"task={task}")
        for task, percent, count in (
            ("1_plotQA", 77.9, 539),
            ("2_needle", 79.7, 355),
            ("3_ego", 62.5, 352),
            ("4_count", 40.8, 206),
            ("5_order", 28.6, 259),
            ("6_anomaly_reco", 76.5, 200),
            ("7_topic_reasoning", 81.8, 264),
        )
    ),
)


def get_config(system: str = "published") -> ConfigDict:
    return choose(
        system,
        {
            # `my_scripts_XComp/mlvu-todo.sh`: 256 of 1,024 frames, 2 repeats.
            "published": xcomp("mlvu", selection=xcomp_selection(256), published=PUBLISHED),
            "vcf": vcf("mlvu", published=PUBLISHED),
        },
    )
