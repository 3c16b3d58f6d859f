"""Statistics on arrays: pure functions of numpy and scipy, each with its definition and its source."""
