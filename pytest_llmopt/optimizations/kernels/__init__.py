"""Other kernels for the same function."""
