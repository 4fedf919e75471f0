"""Notebooks run side by side, each in a kernel of its own with one thread."""

import contextlib
import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
from digests import PACKAGE

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Asked in the kernel after the last cell: what of the package it has loaded.
LOADED = (
    "import json, sys\n"
    f"found = [name for name in sys.modules if name.split('.')[0] == '{PACKAGE}']\n"
    "print(json.dumps(sorted(found)))"
)


@dataclass
class Run:
    """A notebook that has run to its end."""

    notebook: Any
    seconds: float  # of CPU time
    modules: list[str]  # of the package, that its kernel had loaded


@dataclass
class Task:
    """A notebook to run, and what to do with it then."""

    path: Path
    notebook: Any
    store: Callable[[Run], str]  # returns what to say about it


def machine() -> str:
    """What a run can be compared with to the bit: processor and torch."""
    import torch

    name = platform.processor() or platform.machine()
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    else:
        with contextlib.suppress(OSError):
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
                if line.startswith("model name"):
                    name = line.partition(":")[2].strip()
                    break
    return f"{name}, torch {version('torch').split('+')[0]}"


def circumstances() -> dict[str, Any]:
    """What is stored beside a run: processor, versions, day."""
    return {
        "machine": machine(),
        "versions": {
            "python": platform.python_version(),
            "torch": version("torch").split("+")[0],
        },
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


class Kernels:
    """Runs notebooks, and ends their kernels on Ctrl-C.

    Args:
        bar: of all cells.
    """

    def __init__(self, bar: Any) -> None:
        self.bar = bar
        self.clients: set[Any] = set()
        self.stopped = threading.Event()

    def run(self, name: str, task: Task) -> str:
        """Run one notebook and store it; returns what to say about it.

        Raises:
            RuntimeError: naming notebook, cell, source and error.
        """
        from nbclient import NotebookClient
        from psutil import Process

        where, seconds = 0, 0.0

        def started(cell: Any, cell_index: int) -> None:
            nonlocal where
            where = cell_index

        def executed(cell: Any, cell_index: int, execute_reply: Any) -> None:
            nonlocal seconds
            # CPU time, because two chapters, or a busy machine, stretch the clock's.
            times = Process(client.km.provisioner.pid).cpu_times()
            own, children = times.user + times.system, times.children_user
            seconds = own + children + times.children_system
            self.bar.set_postfix_str(f"{name}, cell {cell_index + 1}", refresh=False)
            self.bar.update()

        asked = nbformat.v4.new_code_cell(LOADED)
        task.notebook.cells.append(asked)
        client = NotebookClient(
            task.notebook,
            timeout=900,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": str(task.path.parent)}},
            on_cell_start=started,
            on_cell_executed=executed,
            record_timing=False,
            coalesce_streams=True,
        )
        self.clients.add(client)
        try:
            client.execute()
        except Exception as error:  # a cell's error, a timeout, a kernel that died
            if self.stopped.is_set():
                raise
            raise RuntimeError(told(task, where, error)) from None
        finally:
            self.clients.discard(client)
            task.notebook.cells.remove(asked)
        modules = json.loads(asked.outputs[0].text)
        return task.store(Run(task.notebook, seconds, modules))

    def kill(self) -> None:
        """End every kernel now; a kernel leads its own process group."""
        self.stopped.set()
        for client in list(self.clients):
            provisioner = getattr(client.km, "provisioner", None)
            process = getattr(provisioner, "process", None)
            if process and process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def told(task: Task, where: int, error: Exception) -> str:
    """Which cell failed, and how."""
    cell, count = task.notebook.cells[where], len(task.notebook.cells) - 1
    words = str(error)
    if cell.source not in words:
        words = f"{cell.source}\n{type(error).__name__}: {error}"
    return f"{task.path}, cell {where + 1} of {count}:\n{words}"


def run_all(tasks: dict[str, Task], *, jobs: int) -> tuple[list[str], list[str]]:
    """Run the notebooks, ``jobs`` at a time, with one progress bar over their cells.

    Returns:
        The names of those that ran to their end and were stored, and of those that
        failed, each told on stderr.

    Raises:
        SystemExit: after Ctrl-C, when the kernels have ended, saying what is stored and
            what remains.
    """
    from tqdm import tqdm

    os.environ |= {name: "1" for name in (*THREADS, "TQDM_DISABLE")}
    for ending in (signal.SIGINT, signal.SIGTERM):
        # Also where a shell's background job is deaf to Ctrl-C.
        signal.signal(ending, signal.default_int_handler)
    cells = [cell for task in tasks.values() for cell in task.notebook.cells]
    count = sum(c.cell_type == "code" and bool(c.source.strip()) for c in cells)
    failed = []
    with (
        tqdm(total=count + len(tasks), unit="cell", disable=not tasks) as bar,
        ThreadPoolExecutor(jobs) as pool,
    ):
        kernels = Kernels(bar)
        futures = {}
        try:
            for name, task in tasks.items():
                futures[pool.submit(kernels.run, name, task)] = name
            for future in as_completed(futures):
                name = futures[future]
                if future.exception():
                    failed.append(name)
                    tqdm.write(f"FAILED {name}: {future.exception()}", file=sys.stderr)
                else:
                    tqdm.write(f"{name}: {future.result()}")
        except KeyboardInterrupt:
            for ending in (signal.SIGINT, signal.SIGTERM):
                signal.signal(ending, signal.SIG_IGN)  # one is enough
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(future.done() for future in futures):
                kernels.kill()
                time.sleep(0.1)
    finished = [
        name
        for future, name in futures.items()
        if future.done() and not future.cancelled() and not future.exception()
    ]
    if kernels.stopped.is_set() or len(finished) + len(failed) < len(tasks):
        left = [name for name in tasks if name not in finished]
        stored = ", ".join(finished) or "nothing"
        print(
            f"interrupted; stored: {stored}; not run: {', '.join(left)}\n"
            "nothing stored was lost; the same command goes on from here",
            file=sys.stderr,
        )
        sys.exit(130)
    return finished, failed
