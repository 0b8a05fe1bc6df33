"""Evaluation on public benchmarks: questions, prompts, scoring, protocols, statistics, reports.

No part imports JAX's programs or the engine. `scoring`, `tasks`, `tables`, `subtitles`, `media`,
`rows` and `statistics` import nothing heavy at all.

Before a run:

    task = tasks.task_named("lvbench")                  what the benchmark is
    protocol = protocol.load_protocol("lvbench")        what a published number depends on
    questions = check.in_subset(task.load(folder), protocol.subset)
    check.check_folder(task, folder, protocol)          missing videos, published question set

For one question:

    place = media.VideoFinder(folder, extracted_frames=protocol.extracted_frames).find(question)
    path = media.local_file(place, cache)
    prompt = prompts.question_prompt(task, question, folder, subtitles=protocol.subtitles)
    key = rows.row_key(...)                             contents; a row with it is not asked again
    row = make_rows.answer_row(...)                     or failed_row, if the video is broken
    rows.RowWriter(run / f"rows-{process}.jsonl").append(row)

After a run:

    rows = rows.read_run(run)                           of all processes
    summary = summary.score_rows(task, questions, rows.values())
    markdown.to_markdown(report), page.to_html(report)
    comparison.compare_runs(task, questions, first, second)

A runner joins these with `inference`. It groups questions by `Question.video_key`, so that a video
is decoded and encoded once, and takes from here: the frames (`protocol.sampling`, `question.clip`,
`question.folder_fps`), `protocol.selection`, the generation settings, and whether the time message
stands before the prompt (`protocol.time_message`). In a haystack (`question.needles`) each needle's
visual tokens stand before the frame that it names, and the answer is the most likely token at each
position of the gold letter. The runner passes back the generated text, the seconds of the sampled
frames and the indices of the selected ones.
"""
