"""Evaluation on public benchmarks: questions, prompts, scoring, protocols and statistics.

Pure parts, which import neither JAX nor the engine: `scoring`, `tasks`, `tables`, `subtitles`,
`question_sets`, `media`, `statistics`. The parts fit together like this:

    task = tasks.task_named("lvbench")                  what the benchmark is
    protocol = protocol.load_protocol("lvbench")        what a published number depends on
    questions = check.in_subset(task.load(folder), protocol.subset)
    place = media.VideoFinder(folder, ...).find(question)
    text = task.prompt(question, subtitles)             subtitles: None unless protocol.subtitles
    readings = task.read(question, answer)              one Reading per scoring mode
    statistics.estimate(scores, videos)                 mean, errors, interval over videos

A runner joins them with `inference`: it groups questions by video, asks, and writes one row per
answer. It takes from here the frames (`protocol.sampling`, `question.clip`, `question.folder_fps`),
the selection, the generation settings and the prompt; what it has to return is the generated text.
Nothing here depends on how the text was made, so that rows of other systems can be scored as well.
"""
