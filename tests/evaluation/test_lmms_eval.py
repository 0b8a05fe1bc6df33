"""Tests the model of lmms-eval by the harness's own command, on a task of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.scripted_model import write_scripted_model
from tests.write_video import write_video

TASK = """
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/questions.jsonl}}}}
test_split: test
task: generated_videos
output_type: generate_until
doc_to_visual: !function utils.doc_to_visual
doc_to_text: question
doc_to_target: answer
doc_to_messages: !function utils.doc_to_messages
generation_kwargs: {{max_new_tokens: 8, do_sample: false}}
process_results: !function utils.process_results
metric_list:
  - {{metric: right, aggregation: mean, higher_is_better: true}}
"""

FUNCTIONS = """
def doc_to_visual(doc):
    return [doc["video"]]


def doc_to_messages(doc, lmms_eval_specific_kwargs=None):
    video = {"type": "video", "url": doc["video"]}
    text = {"type": "text", "text": doc["question"]}
    return [{"role": "user", "content": [video, text]}]


def process_results(doc, results):
    return {"right": float(results[0] == doc["answer"])}
"""

PLUGIN = """[lmms_eval.models]
xcomp_jax = xcomp_jax.evaluation.lmms_eval_manifest:manifest
"""


def write_task(folder: Path) -> None:
    """Writes a task with three questions about two videos; two have the answer B."""
    frames = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    videos = [str(write_video(folder / f"{number}.mp4", frames, fps=4)) for number in range(2)]
    docs = [
        {"video": video, "question": f"Which {number}?", "answer": answer}
        for number, (video, answer) in enumerate(zip([*videos, videos[0]], "BCB", strict=True))
    ]
    lines = "".join(json.dumps(doc) + "\n" for doc in docs)
    (folder / "questions.jsonl").write_text(lines, encoding="utf-8")
    (folder / "utils.py").write_text(FUNCTIONS, encoding="utf-8")
    (folder / "task.yaml").write_text(TASK.format(folder=folder), encoding="utf-8")


def test_lmms_eval_command_prints_score(tmp_path: Path) -> None:
    pytest.importorskip("lmms_eval", reason="needs lmms-eval, which brings PyTorch")
    write_scripted_model(tmp_path / "model", "B")
    write_task(tmp_path)
    # Metadata of an installed package, for a checkout that is not installed.
    installed = tmp_path / "site" / "xcomp_jax_plugin-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: xcomp_jax_plugin\nVersion: 1\n", encoding="utf-8"
    )
    (installed / "entry_points.txt").write_text(PLUGIN, encoding="utf-8")
    model = f"pretrained={tmp_path / 'model'},max_frames=16,select=all"
    command = [sys.executable, "-m", "lmms_eval", "--model", "xcomp_jax", "--model_args", model]
    command += ["--include_path", str(tmp_path), "--tasks", "generated_videos"]
    command += ["--output_path", str(tmp_path / "results"), "--log_samples"]
    paths = [str(installed.parent), *sys.path]
    process = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": ":".join(paths), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert "0.6667" in process.stdout, process.stdout[-3000:]
