"""Everything that touches a tensor: the model, its dictionaries, and what is measured and changed in them.

What leaves this package is frozen dataclasses of Python numbers and strings.
"""
