"""The reference proxy as `perfkit proxy` runs it; a line on standard input is answered by how its collector is set.

The thread that answers looks from inside, so that nothing of what is being tested has to be believed.
"""

import gc
import json
import os
import sys
import threading

from perfkit.proxy.__main__ import main


def talk():
    while os.read(0, 4096):
        seen = {
            "thresholds": gc.get_threshold(), "enabled": gc.isenabled(), "frozen": gc.get_freeze_count(),
            "callbacks": len(gc.callbacks),
        }  # fmt: skip
        os.write(1, json.dumps(seen).encode() + b"\n")


threading.Thread(target=talk, daemon=True).start()
sys.exit(main(sys.argv[1:]))
