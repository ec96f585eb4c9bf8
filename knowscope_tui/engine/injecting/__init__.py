"""Facts put into a model by incremental fine-tuning, measured, and saved as a folder that transformers loads."""
