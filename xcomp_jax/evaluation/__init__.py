"""Evaluation on public benchmarks: questions, prompts, scoring, protocols, statistics, runs.

`scoring`, `tasks`, `tables`, `subtitles`, `media`, `rows` and `statistics` import nothing heavy.
Only `prepare_session`, `runner` and `forecast` use a model.

Before a run:

    task = tasks.task_named("lvbench")                  what the benchmark is
    protocol = protocol.load_protocol("lvbench")        what a published number depends on
    questions = check.in_subset(task.load(folder), protocol.subset)
    check.check_folder(task, folder, protocol)          missing videos, published question set

A run, as `cli.evaluate` starts it:

    session, protocol = prepare_session.protocol_session(loaded, protocol, store)
    run_folder.open_run(run, run_folder.RunRecord(...)) refuses another checkpoint or protocol
    forecast.forecast_cost(session, groups, folder)     from a sample of the videos
    runner.run_questions(runner.Evaluation(...), shard) rows of this part of the videos

After a run:

    rows = run_folder.latest_rows(run_folder.rows_of(run).values())
    summary = summary.score_rows(task, questions, rows)
    write_report.write_report(run, write_report.build_report(task, questions, run, record))
    comparison.compare_runs(task, questions, first, second)

The runner does not run haystacks (`Question.needles`). There, each needle's visual tokens stand
before the frame that it names, and the answer is the most likely token at each position of the gold
letter. Selection then keeps visual tokens that are already encoded, so that the published selection
of a single frame needs no clip of one frame, which `Session` refuses.
"""
