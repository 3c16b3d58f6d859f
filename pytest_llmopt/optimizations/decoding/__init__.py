"""How the next token is computed: caches, compilation, speculation."""
