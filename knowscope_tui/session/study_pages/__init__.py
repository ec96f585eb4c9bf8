"""What the runs of studies come to, as files: tables, plots, a page for each study and one over all.

    DIR/
        tables/NAME.md, NAME.csv
        plots/NAME.png, NAME.svg
        findings.json          the same as numbers
        report.html, REPORT.md

| module | what it does |
|---|---|
| `cells` | values and estimates as cells of a table |
| `tables` | tables as blocks of a page, and as CSV |
| `drawing` | plots as SVG and PNG |
| `sections` | findings and configurations as sections of a page |
| `write` | the files |
"""
