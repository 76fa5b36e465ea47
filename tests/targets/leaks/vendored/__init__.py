"""Libraries that the services import: what piles up here is not in `__main__`."""
