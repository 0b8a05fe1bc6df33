"""Writes miniature data folders in the layouts of the benchmarks' publishers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

Row = dict[str, Any]


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: Sequence[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def lvbench_row(**changes: Any) -> Row:
    return {
        "video": "00000000",
        "type": "tv",
        "question": "What color is the car?",
        "candidates": ["(A) red", "(B) green", "(C) blue", "(D) white"],
        "answer": "(B) green",
        "question_type": ["entity recognition", "reasoning"],
        "time_reference": "01:05-01:10",
        **changes,
    }


def lvbench(folder: Path, rows: Sequence[Row] | None = None) -> Path:
    rows = rows or [lvbench_row(), lvbench_row(question="And the bus?", answer="(D) white")]
    write_json(folder / "json" / "lvbench_clean_tv.json", rows)
    write_json(
        folder / "json" / "lvbench_clean_sport.json", [lvbench_row(type="sport", video="00000001")]
    )
    return folder


def lvbench_original(folder: Path) -> Path:
    """One JSON line per video, with its questions; the same questions as `lvbench`."""
    text = "{}\n(A) red\n(B) green\n(C) blue\n(D) white"
    videos = [
        ("abc", "tv", [("What color is the car?", "B"), ("And the bus?", "D")]),
        ("def", "sport", [("What color is the car?", "B")]),
    ]
    lines = []
    for number, (key, kind, questions) in enumerate(videos):
        qa = [
            {
                "uid": f"{number}{index}",
                "question": text.format(question),
                "answer": answer,
                "question_type": ["entity recognition"],
                "time_reference": "01:05-01:10",
            }
            for index, (question, answer) in enumerate(questions)
        ]
        lines.append(json.dumps({"key": key, "type": kind, "qa": qa}))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "video_info.meta.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def mlvu(folder: Path) -> Path:
    row = {
        "video": "count_1.mp4",
        "duration": 600.5,
        "question": "How many?",
        "candidates": ["2", "1", "5", "1"],
        "answer": "1",
        "question_type": "count",
    }
    write_json(folder / "json" / "4_count.json", [row])
    write_json(folder / "json" / "2_needle.json", [row | {"answer": "none of these"}])
    return folder


def longvideobench_row(**changes: Any) -> Row:
    return {
        "video_id": "v1",
        "id": "v1_0",
        "video_path": "v1.mp4",
        "subtitle_path": "v1_en.json",
        "correct_choice": 1,
        "question": "What is shown?",
        **{f"option{index}": option for index, option in enumerate(("a cat", "a dog", "a cow"))},
        "option3": "N/A",
        "option4": "N/A",
        "duration": 10.0,
        "duration_group": 15,
        "question_category": "T2O",
        "topic_category": "NP",
        "starting_timestamp_for_subtitles": 0.0,
        **changes,
    }


def longvideobench(folder: Path) -> Path:
    write_parquet(folder / "validation-00000-of-00001.parquet", [longvideobench_row()])
    subtitles = [
        {"timestamp": [0.0, 4.0], "text": "Good morning."},
        {"start": "00:00:20.000", "end": "00:00:25.000", "line": "Too late."},
    ]
    write_json(folder / "subtitles" / "v1_en.json", subtitles)
    return folder


def videomme(folder: Path) -> Path:
    rows = [
        {
            "video_id": f"{number:03}",
            "duration": duration,
            "domain": "Knowledge",
            "sub_category": "Law",
            "url": "https://example.org",
            "videoID": f"video{number}",
            "question_id": f"{number:03}-1",
            "task_type": "OCR Problems",
            "question": "Which word?",
            "options": ["A. Yes.", "B. No.", "C. Maybe.", "D. Never."],
            "answer": "C",
        }
        for number, duration in ((1, "short"), (2, "long"))
    ]
    write_parquet(folder / "videomme" / "test-00000-of-00001.parquet", rows)
    return folder


def mvbench(folder: Path) -> Path:
    row = {"question": "Why?", "candidates": ["so", "thus"], "answer": "thus"}
    write_json(
        folder / "json" / "episodic_reasoning.json",
        [row | {"video": "castle_clip", "start": 0.0, "end": 3.5, "fps": 3}],
    )
    write_json(folder / "json" / "fine_grained_pose.json", [row | {"video": "pose.avi"}])
    return folder


def perceptiontest(folder: Path) -> Path:
    row = {
        "video_name": "video_1",
        "question": "Where?",
        "question_id": "3",
        "options": ["here", "there", "nowhere"],
        "answer_id": "2",
        "area": "physics",
        "reasoning": "descriptive",
        "tag": ["motion"],
    }
    write_parquet(folder / "mc_question_val" / "validation-00000-of-00001.parquet", [row])
    return folder


def charades(folder: Path) -> Path:
    row = {"video": "3MSZA.mp4", "caption": "person turn a light on.", "timestamp": [1.0, 3.0]}
    write_json(folder / "json" / "temporal_grounding_charades.json", [row])
    return folder


def niah(folder: Path) -> Path:
    question = "Find the frame. What color?\nOptions: (A) red\n(B) blue\nBest option: ("
    single = {"question": question, "answer": "B", "image": "single/a.jpg", "id": 0}
    write_json(folder / "niah-coco-singlehop_20.json", [single])
    multi = {
        "images": [f"multi/{index}.jpg" for index in range(7)],
        **{f"question{number}": question for number in (1, 2)},
        **{f"answer{number}": "A" for number in (1, 2)},
    }
    write_json(folder / "niah-coco-multihop-100.json", [multi])
    return folder


def tempcompass(folder: Path) -> Path:
    row = {
        "video_id": "99",
        "question": "What happens?\nA. rising\nB. falling",
        "answer": "B. falling",
        "dim": "direction",
    }
    write_parquet(folder / "multi-choice" / "test-00000-of-00001.parquet", [row])
    return folder


LAYOUTS = {
    "lvbench": lvbench,
    "mlvu": mlvu,
    "longvideobench": longvideobench,
    "videomme": videomme,
    "mvbench": mvbench,
    "perceptiontest": perceptiontest,
    "charades": charades,
    "niah_single": niah,
    "niah_multi": niah,
    "tempcompass": tempcompass,
}
"""Writer of a miniature data folder by benchmark."""
