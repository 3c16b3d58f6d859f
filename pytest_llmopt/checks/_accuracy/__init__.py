"""What an accuracy check scores."""
