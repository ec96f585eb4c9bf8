"""Saving an edited model as a folder that plain `transformers` loads, and checking such a folder against its base.

| module | what it does |
|---|---|
| `stored` | where the tensors of a model folder lie: shard, offset, dtype, shape |
| `place` | a file into a folder: linked, reflinked or copied |
| `folder` | a folder beside its target that becomes it whole, or vanishes |
| `plan` | what a save would write and link |
| `save` | the save itself |
| `saved` | a saved folder read back, and what is wrong with it |
"""
