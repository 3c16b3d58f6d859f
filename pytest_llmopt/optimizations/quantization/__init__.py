"""Weights, and later activations and caches, in fewer bits."""
