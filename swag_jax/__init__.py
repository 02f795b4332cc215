"""Neural style transfer in JAX and Flax."""
