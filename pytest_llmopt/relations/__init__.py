"""One file, one metamorphic relation: something that must not matter to what a model says. The file name is its name."""
