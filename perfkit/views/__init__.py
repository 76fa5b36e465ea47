"""Numbers and tables -> Altair charts and plain tables, one view per file."""
