"""One file, one way to run a model."""
