"""Numbers only: tables of a profile in, numbers out. No charts, no processes, no files."""
