"""The only place that starts a kernel and runs a notebook's cells in it.

The kernel is this very interpreter (no kernel spec has to be installed), it talks over a Unix
socket (no TCP port, no warning about it), and its IPython knows no start-up files and no
history, so that every run is like every other.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CELL_TIMEOUT_S = 600
START_TIMEOUT_S = 60


class Execution:
    """A notebook that is being run in the background."""

    def __init__(self, notebook: Any) -> None:
        self._stop: Callable[[], object] = lambda: None
        self._notebook = notebook
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="perfkit-notebook")
        self._future = self._pool.submit(self._run, notebook)

    def finish(self) -> str | None:
        """Wait for the end; return what went wrong, or None. The outputs are in the notebook."""
        return self._future.result() or shown_error(self._notebook)

    def close(self) -> None:
        """Stop the notebook if it is still running, and wait for its kernel to be gone."""
        if not self._future.done():
            self._stop()
        self._pool.shutdown(wait=True)

    def _run(self, notebook: Any) -> str | None:
        """Run every cell and return why it stopped early, or None."""
        # Unix socket paths are at most 104 bytes long on some systems: a short folder, whatever TMPDIR says.
        folder = Path(tempfile.mkdtemp(prefix="pk-", dir="/tmp" if Path("/tmp").is_dir() else None))  # noqa: S108
        try:
            return asyncio.run(self._execute(notebook, folder))
        except asyncio.CancelledError:
            return "it was interrupted"
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _execute(self, notebook: Any, folder: Path) -> str | None:
        """Run every cell in a kernel whose files are in `folder`."""
        _skip_slow_imports()
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        self._stop = lambda: loop.call_soon_threadsafe(task.cancel) if task else None
        client = NotebookClient(
            notebook,
            km=_kernel(folder),
            timeout=CELL_TIMEOUT_S,
            startup_timeout=START_TIMEOUT_S,
            shutdown_kernel="immediate",
            record_timing=False,
        )
        environment = dict(os.environ) | {
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_DATA_DIR": str(folder),
            "PYTHONHASHSEED": "0",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        try:
            # nbclient cleans up only after kernels that it made, unless told so.
            await client.async_execute(env=environment, cleanup_kc=True)
        except CellExecutionError as error:
            return shown_error(notebook) or f"{error.ename}: {error.evalue}"
        except CellTimeoutError:
            return f"a cell took longer than {CELL_TIMEOUT_S} seconds"
        except DeadKernelError:
            return "its process died"
        return None


@contextmanager
def execution(notebook: Any) -> Iterator[Execution]:
    """Run a notebook in place while the caller does something else; the kernel is gone afterwards."""
    running = Execution(notebook)
    try:
        yield running
    finally:
        running.close()


def shown_error(notebook: Any) -> str | None:
    """Return the first exception among the outputs, or None.

    A cell can succeed and show one: Altair, asked for a chart it cannot make, prints the
    traceback and shows nothing. A chart that is missing in silence would be worse than an error.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                return f"{output.ename}: {output.evalue}".splitlines()[0]
    return None


def _kernel(folder: Path) -> Any:
    """Return a manager for one kernel: this interpreter, behind a Unix socket."""
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class ThisInterpreter(KernelSpecManager):  # type: ignore[misc]
        """Knows one kernel: the interpreter that perfkit runs in."""

        def get_kernel_spec(self, kernel_name: str) -> Any:
            """Return the only kernel there is."""
            argv = [sys.executable, "-m", "perfkit.report.kernel", "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name=kernel_name, language="python")

    return AsyncKernelManager(
        transport="ipc",
        ip=str(folder / "k"),
        connection_file=str(folder / "kernel.json"),
        kernel_spec_manager=ThisInterpreter(data_dir=str(folder)),
    )


def _skip_slow_imports() -> None:
    """Keep jsonschema from loading a grammar that costs it 1.7 s where JupyterLab is installed.

    It is used to check one string format (IRI) that notebooks do not have, and jsonschema does
    without it when it cannot be imported: https://github.com/python-jsonschema/jsonschema/issues/1428
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


def main() -> None:
    """Start the kernel itself: what `get_kernel_spec` names."""
    _skip_slow_imports()
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance(["--HistoryManager.enabled=False", *sys.argv[1:]])


if __name__ == "__main__":
    main()
