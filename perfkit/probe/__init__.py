"""What runs inside a target; standard library only, nothing of it is imported by perfkit itself."""
