"""The embedded model: its facts (`corpus`), its files (`bundle`), and the recipe that built them (`recipe`)."""
