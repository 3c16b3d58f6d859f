"""What a candidate sampled, and the evidence in it."""
