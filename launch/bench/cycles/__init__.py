"""Compilers' estimates of the cycles of the model's programs on TPUs that are not attached."""
