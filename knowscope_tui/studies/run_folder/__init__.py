"""The folder of one run of a study, in which a run that was stopped goes on where it was.

    DIR/
        config.json            what was asked, and what it was measured with
        parts/part-000012.parquet    some items' rows, named by the first of them
        rows.parquet           every row, once all items are measured; the parts go then
        damaged/               files that were cut short or damaged, set aside
        cache/                 what the study keeps for all items

Every file but the lock is there whole or not at all (see `core.written`). What is reported out of the rows lies beside
them and is written by whoever reports.

| module | what it does |
|---|---|
| `configuration` | what a run is asked, and whether a folder is of the same |
| `rows` | rows as Parquet |
| `folder` | the folder |
"""

from knowscope_tui.studies.run_folder.configuration import CONFIG, configuration_of
from knowscope_tui.studies.run_folder.folder import CACHE, RunFolder, check_place, open_run, read_run

__all__ = ["CACHE", "CONFIG", "RunFolder", "check_place", "configuration_of", "open_run", "read_run"]
