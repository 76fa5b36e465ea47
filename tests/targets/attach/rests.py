"""A service whose collector rests; answers each line with what has become garbage since, by type and how many."""

import gc
import sys
import threading
import time
from collections import Counter


def work():
    while True:
        time.sleep(0.01)


threading.Thread(target=work, daemon=True).start()
gc.collect()
gc.disable()
print("ready", flush=True)
for _line in sys.stdin:
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    print(sorted(Counter(type(each).__name__ for each in gc.garbage).items()), flush=True)
    gc.set_debug(0)
    gc.garbage.clear()
    gc.collect()
