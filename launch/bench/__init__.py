"""Speed of the kernels and of the model, measured; needs JAX, Flax, Optax and Orbax alone."""
