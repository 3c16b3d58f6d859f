"""The noise floor of a reference, and where it is kept."""
