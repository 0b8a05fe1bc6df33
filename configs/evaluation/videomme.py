"""Video-MME without subtitles. XComp reports the 900 questions on long videos only."""

from ml_collections import ConfigDict

from xcomp_jax.configs.evaluation.common import (
    ABLATION,
    VCF,
    VCF_README,
    XCOMP,
    choose,
    published_score,
    vcf,
    xcomp,
    xcomp_selection,
)

LOG = "XComp: my_scripts_XComp/videomme_512_from_1024_dp2.log"
LONG = "duration=long"

PUBLISHED = (
    published_score("XComp-2B", 45.6, 900, f"{XCOMP}; {LOG} prints 45.7", LONG),
    published_score("XComp-2B, global scores", 44.8, 900, ABLATION, LONG),
    published_score("same data, no compression", 44.7, 900, XCOMP, LONG),
    published_score("VideoChat-Flash-2B", 44.9, 900, VCF, LONG),
    published_score("VideoChat-Flash-2B", 57.0, 2700, VCF_README),
)


def get_config(system: str = "published") -> ConfigDict:
    return choose(
        system,
        {
            "published": xcomp(
                "videomme",
                subset=LONG,
                # `lmms_eval/tasks/videomme/utils.py` reads the folder images_2048.
                extracted_frames=True,
                # `my_scripts_XComp/videomme-todo.sh`: 512 of 1,024 frames, 2 repeats.
                selection=xcomp_selection(512),
                published=PUBLISHED,
                not_pinned=(
                    "repeats: 2 in the command and the name of the log, whose number of scoring "
                    "passes fits 8",
                ),
            ),
            "vcf": vcf("videomme", published=PUBLISHED),
        },
    )
