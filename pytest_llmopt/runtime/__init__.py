"""Where engines live: loading each variant once, evicting, and the two sides that a test sees."""
