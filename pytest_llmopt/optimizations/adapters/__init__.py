"""Small trained weights beside those of the model."""
