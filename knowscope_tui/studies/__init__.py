"""The paper's tables and figures, each a study that measures items one by one and reports out of the rows."""
