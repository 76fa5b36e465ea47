"""One thread, asleep."""

import time

print("ready", flush=True)
time.sleep(600)
