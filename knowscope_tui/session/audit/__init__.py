"""The audit pages of a saved edit: one HTML page and one Markdown page with the same content, from the record alone.

| module | what it does |
|---|---|
| `summary`, `edit_sections`, `proof_sections`, `way_back` | from the record to sections |
| `commands` | the commands that make, check and undo the edit again |
| `plots`, `grids` | pictures: the frontier, positions by layer and over each matrix |
| `write` | the two files, whole or not at all |

What pages are made of, and how they become HTML and Markdown, is `session.pages`.
"""
