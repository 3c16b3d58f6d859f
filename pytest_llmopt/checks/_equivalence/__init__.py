"""What an equivalence check observes, by every way in."""
