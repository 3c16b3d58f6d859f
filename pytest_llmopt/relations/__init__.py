"""One file, one metamorphic relation: what must not matter to what a model says. The file name is its name."""
