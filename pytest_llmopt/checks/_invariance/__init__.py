"""Metamorphic relations at work."""
