"""The vocabulary of the package: plain frozen data, importable without torch, transformers or pytest."""
