"""What is claimed of every optimization."""
