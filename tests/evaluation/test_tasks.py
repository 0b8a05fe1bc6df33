"""Tests of loading, prompts and scoring of every benchmark on miniature data folders."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from tests.evaluation import layouts
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.prompts import question_prompt
from xcomp_jax.evaluation.question import Needle, Question
from xcomp_jax.evaluation.scoring import MODES
from xcomp_jax.evaluation.subtitles import Subtitle, Subtitles, read_longvideobench
from xcomp_jax.evaluation.tables import Fields, lettered_gold
from xcomp_jax.evaluation.tasks import TASKS, task_named
from xcomp_jax.evaluation.tasks.longvideobench import listed_subtitles, subtitle_moments
from xcomp_jax.evaluation.tasks.lvbench import time_span

PROMPTS = {
    "lvbench": "What color is the car?\nA. (A) red\nB. (B) green\nC. (C) blue\nD. (D) white\n"
    "Answer with the option's letter from the given choices directly.",
    "mlvu": "Question:How many?\nOption:\n(A) 2\n(B) 1\n(C) 5\n(D) 1\n"
    "Answer with the option's letter from the given choices directly.",
    "longvideobench": "What is shown?\n(A). a cat\n(B). a dog\n(C). a cow\n"
    "Answer with the option's letter from the given choices directly.\n",
    "videomme": "These are the frames of a video. Select the best answer to the following "
    "multiple-choice question based on the video. Respond with only the letter (A, B, C, or D) of "
    "the correct option.\nQuestion: Which word?\nOption:\nA. Yes.\nB. No.\nC. Maybe.\nD. Never.\n"
    "Answer with the option's letter from the given choices directly.",
    "mvbench": "Question: Why?\nOption:\n(A) so\n(B) thus\n\nOnly give the best option.",
    "perceptiontest": "\nQuestion: Where?\n(A). here\n(B). there\n(C). nowhere\n"
    "Only give the best option.",
    "charades": "Please find the visual event described by a sentence in the video, determining "
    "its starting and ending times. The format should be: 'The event happens in the start time - "
    "end time'. For example, The event 'person turn a light on' happens in the 24.3 - 30.4 seonds. "
    "Now I will give you the textual sentence: person turn a light on.. Please return its start "
    "time and end time.",
    "niah_single": "Find the frame. What color?\nOptions: (A) red\n(B) blue\nBest option: (",
    "niah_multi": "Find the frame. What color?\nOptions: (A) red\n(B) blue\nBest option: (",
    "tempcompass": "What happens?\nA. rising\nB. falling\nPlease directly give the best option:",
}

RIGHT_ANSWERS = {
    "lvbench": "B",
    "mlvu": "B",
    "longvideobench": "(B)",
    "videomme": "C",
    "mvbench": "B",
    "perceptiontest": "C",
    "charades": "1.0 - 3.0",
    "niah_single": "B",
    "niah_multi": "A",
    "tempcompass": "B. falling",
}


def first_question(name: str, folder: Path) -> Question:
    """Returns the first question with an answer."""
    questions = TASKS[name].load(layouts.LAYOUTS[name](folder))
    # Files are read in order of their names.
    wanted = {"lvbench": "tv-0", "mlvu": "4_count-0"}.get(name, questions[0].id)
    return next(question for question in questions if question.id == wanted)


@pytest.mark.parametrize("name", TASKS)
def test_prompt_miniature_folder_as_published(name: str, tmp_path: Path) -> None:
    assert TASKS[name].prompt(first_question(name, tmp_path), None) == PROMPTS[name]


@pytest.mark.parametrize("name", TASKS)
def test_read_right_answer_scores_one(name: str, tmp_path: Path) -> None:
    question = first_question(name, tmp_path)
    readings = TASKS[name].read(question, RIGHT_ANSWERS[name])
    assert list(readings) == list(MODES)
    assert {reading.score for reading in readings.values()} == {1.0}
    wrong = TASKS[name].read(question, "nothing")
    assert {reading.expected for reading in wrong.values()} <= {0.0, 1 / 3}


@pytest.mark.parametrize("name", TASKS)
def test_load_reported_categories_present(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    for question in task.load(layouts.LAYOUTS[name](tmp_path)):
        assert {task.macro_over, *task.report_by} <= set(question.categories)


@pytest.mark.parametrize("name", TASKS)
def test_load_empty_folder_names_layouts(name: str, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    with pytest.raises(DataError, match=r"has no annotations: expected one of .*; it holds films"):
        TASKS[name].load(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        TASKS[name].load(tmp_path / "absent")


def test_task_named_unknown_name_lists_known() -> None:
    assert task_named("mlvu") is TASKS["mlvu"]
    with pytest.raises(DataError, match="unknown benchmark 'mvlu'; known: lvbench, mlvu"):
        task_named("mvlu")


def test_load_faulty_rows_name_file_and_field(tmp_path: Path) -> None:
    missing = layouts.lvbench_row()
    missing["awnser"] = missing.pop("answer")
    layouts.lvbench(tmp_path, [missing])
    with pytest.raises(
        DataError, match=r"tv\.json row 0: field 'answer' is missing; the row has .*awnser"
    ):
        TASKS["lvbench"].load(tmp_path)
    layouts.lvbench(tmp_path, [layouts.lvbench_row(question=7.5, candidates={"A": 1})])
    with pytest.raises(DataError, match=r"field 'candidates' is \{'A': 1\}, expected a list"):
        TASKS["lvbench"].load(tmp_path)
    layouts.write_json(tmp_path / "json" / "lvbench_clean_tv.json", {"a": 1})
    with pytest.raises(DataError, match="must hold a list of objects"):
        TASKS["lvbench"].load(tmp_path)
    (tmp_path / "json" / "lvbench_clean_tv.json").write_text("[{", encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot be read .*; download it again"):
        TASKS["lvbench"].load(tmp_path)


def test_load_answers_out_of_range_without_gold(tmp_path: Path) -> None:
    rows = [layouts.longvideobench_row(id=f"v{choice}", correct_choice=choice) for choice in (2, 3)]
    rows.append(layouts.longvideobench_row(id="test", correct_choice=-1))
    layouts.write_parquet(tmp_path / "validation-00000-of-00001.parquet", rows)
    questions = TASKS["longvideobench"].load(tmp_path)
    assert [question.gold for question in questions] == [2, None, None]
    assert lettered_gold("(B)", 2) == 1
    assert lettered_gold("C", 2) is lettered_gold("", 2) is lettered_gold("é", 2) is None
    row = {"correct_choice": "second"}
    with pytest.raises(DataError, match="field 'correct_choice' is 'second', expected a whole"):
        Fields(row, tmp_path, 0).integer("correct_choice")


@pytest.mark.parametrize("name", ["videomme", "longvideobench", "perceptiontest", "tempcompass"])
def test_load_parquet_in_two_parts_reads_both(name: str, tmp_path: Path) -> None:
    """Data sets that were saved again may have several files."""
    layouts.LAYOUTS[name](tmp_path)
    first = TASKS[name].load(tmp_path)
    (file,) = tmp_path.rglob("*-00000-of-00001.parquet")
    rows = parquet.read_table(file).to_pylist()
    for row in rows:
        row.update({key: f"{row[key]}2" for key in ("question_id", "id") if key in row})
    layouts.write_parquet(file.with_name(file.name.replace("00000-of", "00001-of")), rows)
    assert len(TASKS[name].load(tmp_path)) == 2 * len(first)


def test_load_null_option_refused(tmp_path: Path) -> None:
    row = layouts.lvbench_row(candidates=["(A) red", None, "(C) blue", "(D) white"])
    layouts.lvbench(tmp_path, [row])
    with pytest.raises(
        DataError, match=r"field 'candidates' is .*None.*, expected a list of strings"
    ):
        TASKS["lvbench"].load(tmp_path)


def test_load_duplicate_ids_refused(tmp_path: Path) -> None:
    rows = [layouts.longvideobench_row(), layouts.longvideobench_row(video_path="v2.mp4")]
    layouts.write_parquet(tmp_path / "validation-00000-of-00001.parquet", rows)
    with pytest.raises(DataError, match=r"id 'v1_0' \(videos v1\.mp4 and v2\.mp4\)"):
        TASKS["longvideobench"].load(tmp_path)


def test_lvbench_both_layouts_same_contents(tmp_path: Path) -> None:
    ours = TASKS["lvbench"].load(layouts.lvbench(tmp_path / "json"))
    original = TASKS["lvbench"].load(layouts.lvbench_original(tmp_path / "original"))
    assert sorted(question.content_hash for question in ours) == sorted(
        question.content_hash for question in original
    )
    assert {question.video for question in original} == {"abc", "def"}
    assert [question.id for question in ours] == ["sport-0", "tv-0", "tv-1"]
    assert ours[0].evidence == ((65.0, 70.0),)


def test_time_span_annotations_converted() -> None:
    assert time_span("01:05-01:10") == (65, 70)
    assert time_span("100:23-100:55") == (6023, 6055)
    assert time_span("1:00:05-1:00:06") == (3605, 3606)
    assert time_span("08:17-None") is time_span("None-None") is time_span("33:52-33:46") is None


def test_mlvu_duplicate_options_first_is_gold(tmp_path: Path) -> None:
    questions = {question.id: question for question in TASKS["mlvu"].load(layouts.mlvu(tmp_path))}
    count, needle = questions["4_count-0"], questions["2_needle-0"]
    read = TASKS["mlvu"].read
    assert count.gold == 1
    assert read(count, "D")["reference"].score == 0
    assert read(count, "D")["strict"].score == 1
    assert needle.gold is None
    assert not any(read(needle, letter)["reference"].score for letter in "ABCD")
    assert count.folders[0] == "MLVU/video/4_count"


def test_longvideobench_subtitles_shown_by_moment(tmp_path: Path) -> None:
    (question,) = TASKS["longvideobench"].load(layouts.longvideobench(tmp_path))
    assert question.subtitles == "subtitles/v1_en.json"
    subtitles = read_longvideobench(tmp_path / question.subtitles)
    prompt = TASKS["longvideobench"].prompt(question, subtitles)
    assert prompt == (
        " This video's subtitles are listed below: \nGood morning..\n Select the best answer to "
        "the following multiple-choice question based on the video and the subtitles. Respond with "
        "only the letter of the correct option.\nQuestion: " + PROMPTS["longvideobench"]
    )
    with pytest.raises(DataError, match=r"question v1_0: the subtitle file .* is missing"):
        TASKS["longvideobench"].prompt(question, Subtitles(missing=True))


def test_longvideobench_moments_and_short_spans() -> None:
    assert subtitle_moments(3.9) == [0, 1, 2]
    assert len(subtitle_moments(512.0)) == 512
    assert subtitle_moments(1024.0)[:3] == [0, 2, 4]
    question = Question(id="q", video="v", text="?", duration=10.0, subtitle_start=100.0)
    entries = (
        Subtitle(103.4, 103.6, "widened to (3, 4): no moment strictly inside"),
        Subtitle(103.5, 103.7, "widened to (3.1, 4.1)"),
        Subtitle(104.0, 106.0, "holds 5"),
        Subtitle(106.0, None, "until the end of the video, which is before its start"),
        Subtitle(90.0, 99.0, "before the video"),
    )
    assert listed_subtitles(question, Subtitles(entries)) == ["widened to (3.1, 4.1)", "holds 5"]
    unknown_end = Question(id="q", video="v", text="?", duration=10.0)
    assert listed_subtitles(unknown_end, Subtitles((Subtitle(6.5, None, "rest"),))) == ["rest"]


def test_videomme_subtitle_wordings_as_published(tmp_path: Path) -> None:
    question = TASKS["videomme"].load(layouts.videomme(tmp_path))[0]
    prompt = TASKS["videomme"].prompt
    tagged = Subtitle(0, 1, '<font color="white" size=".72c">Hello there</font>\nnot tagged')
    with_text = prompt(question, Subtitles((tagged,)))
    assert with_text.startswith(
        "This video's subtitles are listed below: \nHello there\nThese are the frames and "
        "subtitles of a video."
    )
    assert with_text.endswith("D. Never.\nThe best answer is:")
    plain = Subtitle(0, 1, "<i>Hello</i>\nthere")
    assert "below: \nHello there\nThese" in prompt(question, Subtitles((plain,)))
    split = Subtitle(0, 1, '<font color="white" size=".72c">Hello\nthere</font>')
    assert prompt(question, Subtitles((split,))) == prompt(question, Subtitles())
    missing, empty = prompt(question, Subtitles(missing=True)), prompt(question, Subtitles())
    assert missing.startswith("\nThese are the frames of a video.")
    assert empty.startswith("This video's subtitles are listed below: \n\nThese are the frames of")
    assert missing.endswith("The best answer is:")


def test_question_prompt_subtitles_by_protocol(tmp_path: Path) -> None:
    task = TASKS["longvideobench"]
    (question,) = task.load(layouts.longvideobench(tmp_path))
    plain = question_prompt(task, question, tmp_path, subtitles=False)
    assert plain == PROMPTS["longvideobench"]
    listed = question_prompt(task, question, tmp_path, subtitles=True)
    assert "listed below: \nGood morning..\n" in listed
    videomme = TASKS["videomme"]
    asked = videomme.load(layouts.videomme(tmp_path))[0]
    (tmp_path / "subtitle").mkdir()
    text = '1\r\n00:00:01,000 --> 00:00:02,000\r\n<font color="white" size=".72c">Hé</font>\r\n'
    (tmp_path / "subtitle" / "video1.srt").write_bytes(text.encode("latin-1"))
    assert "below: \nHé\nThese" in question_prompt(videomme, asked, tmp_path, subtitles=True)
    mlvu = TASKS["mlvu"]
    count = mlvu.load(layouts.mlvu(tmp_path / "mlvu"))[0]
    with pytest.raises(DataError, match="MLVU dev has no subtitles; set subtitles of the protocol"):
        question_prompt(mlvu, count, tmp_path, subtitles=True)


def test_mvbench_clip_and_frame_folder_read(tmp_path: Path) -> None:
    episodic, pose = TASKS["mvbench"].load(layouts.mvbench(tmp_path))
    assert (episodic.clip, episodic.folder_fps) == ((0.0, 3.5), 3.0)
    assert "video/tvqa/frames_fps3_hq" in episodic.folders
    assert (pose.clip, pose.folder_fps, pose.video) == (None, 1.0, "pose.avi")
    layouts.write_json(tmp_path / "json" / "other.json", [{}])
    with pytest.raises(DataError, match=r"no tasks of MVBench: other\.json; the tasks are"):
        TASKS["mvbench"].load(tmp_path)


def test_niah_grid_and_needle_positions(tmp_path: Path) -> None:
    folder = layouts.niah(tmp_path)
    single = TASKS["niah_single"].load(folder)
    assert len(single) == 60
    by_id = {question.id: question for question in single}
    assert by_id["single-0-1000-60"].needles == (Needle("single/a.jpg", 600),)
    assert by_id["single-0-10000-100"].needles[0].frame == 10_000
    assert by_id["single-0-10000-100"].haystack_frames == 10_000
    multi = TASKS["niah_multi"].load(folder)
    assert len(multi) == 20
    frames = [needle.frame for needle in multi[0].needles]
    assert frames == [0, 166, 333, 500, 666, 833, 1000]


def test_tempcompass_both_layouts_same_contents(tmp_path: Path) -> None:
    (parquet,) = TASKS["tempcompass"].load(layouts.tempcompass(tmp_path / "parquet"))
    entry = {"question": "What happens?\nA. rising\nB. falling", "answer": "B. falling"}
    file = tmp_path / "json" / "questions" / "multi-choice.json"
    layouts.write_json(file, {"99": {"direction": [entry]}})
    assert TASKS["tempcompass"].load(tmp_path / "json") == [parquet]
    layouts.write_json(file, [{"video_id": "99"}])
    with pytest.raises(DataError, match=r"multi-choice\.json must hold lists of questions"):
        TASKS["tempcompass"].load(tmp_path / "json")


def test_perceptiontest_both_layouts_same_contents(tmp_path: Path) -> None:
    (parquet,) = TASKS["perceptiontest"].load(layouts.perceptiontest(tmp_path / "parquet"))
    entry = {
        "id": 3,
        "question": "Where?",
        "options": ["here", "there", "nowhere"],
        "answer_id": 2,
        "area": "physics",
        "reasoning": "descriptive",
        "tag": ["motion"],
    }
    videos = {"video_1": {"metadata": {"split": "valid"}, "mc_question": [entry]}}
    layouts.write_json(tmp_path / "json" / "mc_question_valid.json", videos)
    assert TASKS["perceptiontest"].load(tmp_path / "json") == [parquet]


@pytest.mark.parametrize(
    "times", [[3.0, 1.0], [None, 3.0], ["a", "b"], [0, float("inf")], [1.0], "12", None]
)
def test_charades_timestamp_checked(times: object, tmp_path: Path) -> None:
    row = {"video": "v.mp4", "caption": "c.", "timestamp": times}
    layouts.write_json(tmp_path / "json" / "temporal_grounding_charades.json", [row])
    with pytest.raises(DataError, match=r"row 0: field 'timestamp' is .*, expected \[start, end\]"):
        TASKS["charades"].load(tmp_path)
