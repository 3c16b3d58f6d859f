"""Changes that must change nothing: the same function by another order of summation. They measure the noise floor."""
