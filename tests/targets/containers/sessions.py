"""A table that another module fills."""

BY_ID = {}
