"""A stand-in for CUDA's runtime and driver: real CuPy on a machine without a GPU."""
