"""Experiment files: each defines `get_config()`; copy one to start an experiment."""
