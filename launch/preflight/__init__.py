"""Ahead-of-time checks: compile a run for a TPU or GPU pod that is not attached."""
