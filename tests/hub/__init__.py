"""A Hugging Face hub on loopback, and tiny repositories for it: the clients that talk to it are the real ones."""
