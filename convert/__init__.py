"""Checkpoint conversion between the original's PyTorch layout and ours, without PyTorch.

Only safetensors are read; no code or pickle of a checkpoint is ever executed.
`python -m convert --help` lists the commands.
"""
