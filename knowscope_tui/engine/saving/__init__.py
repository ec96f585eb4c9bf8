"""Saving an edited model as a folder that plain `transformers` loads, and checking such a folder against its base.

| module | what it does |
|---|---|
| `stored` | where the tensors of a model folder lie: shard, offset, dtype, shape |
| `identity` | whether two bases are one, and hashes of the files that a save links |
| `place` | a file into a folder: reflinked, linked or copied |
| `folder` | a folder beside its target that becomes it whole, or vanishes |
| `room` | what a file would take, and whether there is room |
| `save` | the save itself |
| `revert` | a saved edit taken back, without the base |
| `saved` | a saved folder read back, and what is wrong with it |
"""
