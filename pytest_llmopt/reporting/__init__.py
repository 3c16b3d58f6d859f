"""Records and verdicts in, text out."""
