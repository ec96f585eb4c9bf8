"""The terminal UI, driven without a model."""
