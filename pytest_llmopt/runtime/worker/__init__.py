"""An engine in a process of its own, under this or another interpreter, which cannot take the run down."""
