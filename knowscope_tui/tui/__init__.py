"""The terminal face of the session. Nothing in this package imports torch, transformers or the engine."""
