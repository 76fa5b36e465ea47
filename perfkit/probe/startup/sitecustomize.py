"""Runs first in a program that perfkit launches: connects to the recorder, then steps aside.

Its folder is put in front of PYTHONPATH by `perfkit.attach.launch`. It restores the environment
and the import path to what they would have been, and hands over to the `sitecustomize` that it
hides, if there is one.
"""

import gc
import os
import sys
from importlib import import_module


def _start() -> None:
    source = os.environ.pop("PERFKIT_BOOTSTRAP")
    path = os.environ.pop("PERFKIT_PYTHONPATH", None)
    thresholds = os.environ.pop("PERFKIT_GC_THRESHOLDS", None)
    if thresholds is not None:  # as if the program's first line set them: `perfkit.confirmation`
        gc.set_threshold(*map(int, thresholds.split(",")))
    if path is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = path
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - no pathlib before the program's own imports
    sys.path[:] = [entry for entry in sys.path if entry != here]
    sys.path_importer_cache.pop(here, None)
    ours = sys.modules.pop(__name__)
    try:
        import_module(__name__)  # the one of the target, which this one hid
    except ImportError as error:
        # The import system insists that the module it is loading is there.
        sys.modules[__name__] = ours
        if error.name != __name__:
            raise
    finally:
        exec(source, {})  # noqa: S102


if "PERFKIT_BOOTSTRAP" in os.environ:
    _start()
