"""How Transformers applies optimizations: a file for each, under its registered name."""
