"""Checkpoint conversion between PyTorch and XComp-JAX, without PyTorch.

Only safetensors are read; no code or pickle of a checkpoint is ever executed.
`xcomp convert --help` lists the commands.
"""
