"""LongVideoBench validation, 1,337 questions, with subtitles in the prompt."""

from ml_collections import ConfigDict

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

PUBLISHED = (
    published_score("XComp-2B", 59.7, 1337, XCOMP),
    published_score("XComp-2B, global scores", 59.5, 1337, ABLATION),
    published_score("XComp-2B, LP-Comp only", 58.8, 1337, ABLATION),
    published_score("same data, no compression", 57.4, 1337, XCOMP),
    published_score("VideoChat-Flash-2B", 58.3, 1337, VCF),
)


def get_config(system: str = "published") -> ConfigDict:
    return choose(
        system,
        {
            "published": xcomp(
                "longvideobench",
                subtitles=True,
                # arXiv 2604.14149, table B: 256 frames, 2 repeats.
                selection=xcomp_selection(256),
                max_new_tokens=32,  # `lmms_eval/tasks/longvideobench/longvideobench_val_v.yaml`
                published=PUBLISHED,
                not_pinned=("max_frames: 1,024 as in the logs of the other benchmarks",),
            ),
            "vcf": vcf("longvideobench", subtitles=True, max_new_tokens=32, published=PUBLISHED),
        },
    )
