"""Getting code into a process by PID, safely, and out again."""
