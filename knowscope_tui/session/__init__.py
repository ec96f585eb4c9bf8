"""The use cases, without a screen: what the command line, the terminal UI and Python callers share."""
