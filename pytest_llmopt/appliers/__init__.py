"""How engines apply optimizations: `<engine>.<optimization>`, a file each, so that neither knows the other by name."""
