"""What tools left behind, one format per file: files in, tables out, no processes."""
