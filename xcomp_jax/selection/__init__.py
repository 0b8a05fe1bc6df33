"""Question-conditioned frame selection (QC-Comp): plan, window pass, frame scores, reference.

All functions are pure. `engine` compiles the window pass; `inference.selecting` runs it on a video.
"""
