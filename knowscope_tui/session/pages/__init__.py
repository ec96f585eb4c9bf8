"""Pages for people, the same content as one HTML file that needs nothing else and as Markdown.

| module | what it does |
|---|---|
| `blocks` | what a page is made of, whatever it is written as |
| `html`, `markdown` | the pages as text |
| `svg` | elements of drawings that lie inside a page |
| `numbers` | figures as cells of a table |
"""
