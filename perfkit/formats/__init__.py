"""Exports and imports, one format per file."""
