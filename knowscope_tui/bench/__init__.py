"""What this program costs beside its peers: random weights of a named shape, timed three ways in one run.

`run.measure` does it all. Imports nothing heavy by itself; `result` and `shapes` never do.
"""
