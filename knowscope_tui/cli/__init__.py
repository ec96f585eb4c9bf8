"""The command line: one file a verb, and the few things that all verbs share. Results go to stdout, the rest to stderr.

Nothing that takes long to import is imported before a verb runs, so that `--help` answers at once.
"""
