"""QC-Comp in one place: plan, window pass, frame scores, and the slow reference definition.

All of it is pure. `engine` compiles the window pass, `inference.selecting` runs it over a video.
"""
