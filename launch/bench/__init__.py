"""Measure kernels, the model, selection and training on the device of this machine.

The benches of kernels and the model need only JAX, Flax, Optax, Orbax and jaxtyping.
"""
