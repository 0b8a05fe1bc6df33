"""Recognises published question sets by a hash of their texts, options and answers.

File names, order, ids and video names do not change the hash, so that one set has one hash in all
of its layouts. The hashes were computed from the files named in each entry.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

from xcomp_jax.evaluation.question import Question

VCF = "github.com/OpenGVLab/VideoChat-Flash, lmms-eval_videochat/eval_annotations"
XCOMP = "github.com/ZheyuAqaZhang/XComp, lmms-eval_videochat/eval_data_jsons"


@dataclasses.dataclass(frozen=True)
class QuestionSet:
    """A published set. `digest` is empty if only its size is known."""

    task: str
    name: str
    questions: int
    videos: int
    digest: str
    source: str


KNOWN = (
    QuestionSet("lvbench", "XComp", 1492, 99, "0aea025bb30b159c", f"{XCOMP}/LVBench"),
    QuestionSet("lvbench", "VideoChat-Flash", 1519, 101, "f2e49ac8237ab713", f"{VCF}/LVBench"),
    QuestionSet(
        *("lvbench", "original", 1549, 103, "80787d8357226eaf"),
        "logs of github.com/VectorSpaceLab/Video-XL, Video-XL-2/eval/lvu/pure/logs",
    ),
    QuestionSet("mlvu", "dev, multiple choice", 2175, 1242, "dbfe8881036fcb17", f"{VCF}/MLVU_MC"),
    QuestionSet(
        *("longvideobench", "validation", 1337, 753, "a2cbdfb22f33ae6a"), f"{VCF}/LongVideoBench"
    ),
    QuestionSet("videomme", "test", 2700, 900, "ab73358bff196e39", f"{VCF}/Video-MME"),
    QuestionSet("mvbench", "test", 4000, 3687, "d6a4da787ad637a4", f"{VCF}/MVBench"),
    QuestionSet("charades", "test", 3720, 1334, "1db06551a6105da8", f"{VCF}/Temporal_Grounding"),
    QuestionSet(
        *("perceptiontest", "validation", 19140, 0, ""),
        "huggingface.co/datasets/lmms-lab/PerceptionTest_Val",
    ),
    QuestionSet(
        *("tempcompass", "multiple choice", 1580, 410, "98fc045433506f47"),
        "github.com/llyx97/TempCompass, questions/multi-choice.json",
    ),
    QuestionSet(
        *("niah_single", "20 questions, 60 cells", 1200, 1, "e5b3481cb745692a"),
        "github.com/OpenGVLab/VideoChat-Flash, xtuner-eval_niah/vision_niah/data",
    ),
    QuestionSet(
        *("niah_multi", "100 chains, 10 lengths", 2000, 1, "cfec32aafbbc3c22"),
        "github.com/OpenGVLab/VideoChat-Flash, xtuner-eval_niah/vision_niah/data_multi",
    ),
)


@dataclasses.dataclass(frozen=True)
class SetReport:
    """The questions of a folder, and the published set that they equal; None without one."""

    digest: str
    questions: int
    videos: int
    known: QuestionSet | None
    others: tuple[QuestionSet, ...]
    """Published sets of the same benchmark."""

    @property
    def text(self) -> str:
        """One sentence for reports."""
        size = f"{self.questions:,} questions on {self.videos:,} videos, hash {self.digest}"
        if self.known is not None and self.known.digest:
            return f"{size}: the published set {self.known.name!r} ({self.known.source})"
        if self.known is not None:
            return (
                f"{size}: as many as the published set {self.known.name!r}, whose hash is unknown"
            )
        known = ", ".join(f"{other.name} ({other.questions:,})" for other in self.others)
        return f"{size}: no published set; known ones are {known or 'none'}"


def set_hash(questions: Sequence[Question]) -> str:
    """Hashes the contents of all questions, whatever their order."""
    contents = "\n".join(sorted(question.content_hash for question in questions))
    return hashlib.sha256(contents.encode()).hexdigest()[:16]


def recognise(task: str, questions: Sequence[Question]) -> SetReport:
    """Compares the questions of a folder with the published sets of the benchmark."""
    digest = set_hash(questions)
    others = tuple(known for known in KNOWN if known.task == task)
    equal = [known for known in others if known.digest == digest]
    sized = [known for known in others if not known.digest and known.questions == len(questions)]
    videos = len({question.video_key for question in questions})
    return SetReport(digest, len(questions), videos, next(iter(equal + sized), None), others)
