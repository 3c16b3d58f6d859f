"""The parts of the Transformers engine: loading, generation, scoring, memory."""
