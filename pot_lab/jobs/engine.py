"""Papermill engine `pot`: the stock engine, plus a log of events, and correct ends of cancelled notebooks and dead
kernels.

The stock engine ends an interrupted notebook as "completed", and one whose kernel died too. This one marks the cell at
fault in both cases, saves the notebook with the error in it, and appends events to a JSONL file as they happen:
`kernel_started`, `cell_started`, `progress` (at most every 0.25 s), `cell_done`, `cell_failed`, `cancel_requested`.

Usable by itself: `POT_LAB_EVENTS=events.jsonl papermill --engine pot in.ipynb out.ipynb`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import CellExecutionError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager
from papermill.log import logger

from pot_lab.jobs.cancellation import Cancellation
from pot_lab.jobs.progress import EVERY_S, MIME
from pot_lab.jobs.registry import JobEventLog

# A busy host may deliver a kernel's last messages late; nbclient's own four seconds fail jobs that did nothing wrong.
IOPUB_TIMEOUT_S = 60
LOG_LIMIT_BYTES = 16 << 20


class _Stopped(Exception):
    """A stop was requested between two cells."""


class PotNotebookClient(PapermillNotebookClient):
    """Executes the cells of one notebook and logs events.

    Args:
        manager: papermill's state of the notebook.
        events: where events go; None for nowhere.
        cancellation: whether a stop was requested.
        cancel_grace_s: how long an interrupted kernel may take before it is killed, in seconds.
        helpers: a folder whose modules the notebook may import, after all others; empty for none.
        options: of `PapermillNotebookClient`.
    """

    def __init__(
        self,
        manager: NotebookExecutionManager,
        *,
        events: JobEventLog | None,
        cancellation: Cancellation,
        cancel_grace_s: float,
        helpers: str = "",
        **options: Any,
    ) -> None:
        super().__init__(manager, **options)
        self._events = events
        self._cancellation = cancellation
        self._cancel_grace_s = cancel_grace_s
        self._helpers = helpers
        self._kernel_group: int | None = None
        self._pending: tuple[int, dict[str, Any]] | None = None
        self._reported_s = float("-inf")
        self._logged_bytes = 0
        self.on_cell_executed = self._cell_executed

    def _emit(self, kind: str, **data: Any) -> None:
        if self._events is not None:
            self._events.emit(kind, **data)

    # ---------------------------------------------------------------------------------------------------- the cells

    def papermill_execute_cells(self) -> None:
        """Run the cells in order; the first that fails, for any reason, carries the error in the saved notebook."""
        self._kernel_started()
        if self._helpers:
            # last, so that no file of the recipe's folder stands for a module of Python's own
            self.kc.execute(f"__import__('sys').path.append({self._helpers!r})", silent=True, store_history=False)
        for index, cell in enumerate(self.nb.cells):
            self.nb_man.cell_start(cell, index)
            self._emit("cell_started", cell=index)
            try:
                if self._cancellation.requested:
                    raise _Stopped("stopped before this cell")
                self.execute_cell(cell, index)
            except CellExecutionError as error:
                self._failed(index, error.ename)
                self._name_error(index)
                self.nb_man.cell_exception(self.nb.cells[index], cell_index=index, exception=error)
                break
            except Exception as error:  # the kernel died, or was killed because it ignored the cancel
                name = "Cancelled" if self._cancellation.requested else type(error).__name__
                self._failed(index, name)
                self._put_error(index, name, str(error))
                self.nb_man.cell_exception(self.nb.cells[index], cell_index=index, exception=error)
                if isinstance(error, _Stopped):
                    break
                raise
            finally:
                self._flush_progress()
                self.nb_man.cell_complete(self.nb.cells[index], cell_index=index)

    def _failed(self, index: int, name: str) -> None:
        self._flush_progress()
        self._emit("cell_failed", cell=index, name=name)

    def _name_error(self, index: int) -> None:
        """Give a failed cell the error that it lacks: what is no exception of the code, as an unknown magic, stands on
        stderr only.
        """
        outputs = getattr(self.nb.cells[index], "outputs", [])
        if any(output.output_type == "error" for output in outputs):
            return
        texts = [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
        lines = [line for line in "".join(texts).splitlines() if line.strip()]
        name, colon, message = (lines[-1] if lines else "").partition(": ")
        known = bool(colon) and name.isidentifier()
        self._put_error(index, name if known else "CellFailed", message if known else "\n".join(lines) or "no reason")

    def _put_error(self, index: int, name: str, message: str) -> None:
        cell = self.nb.cells[index]
        if cell.cell_type == "code":
            error = nbformat.v4.new_output("error", ename=name, evalue=message, traceback=[f"{name}: {message}"])
            cell.outputs.append(error)

    def _cell_executed(self, cell: Any, cell_index: int, execute_reply: dict[str, Any]) -> None:
        if execute_reply["content"]["status"] == "ok":
            self._flush_progress()
            self._emit("cell_done", cell=cell_index)

    # ------------------------------------------------------------------------------------- messages of the kernel

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Log progress reports and printed text of a kernel's message, then process it as nbclient does."""
        content = msg["content"]
        if msg["msg_type"] in ("display_data", "update_display_data"):
            report = content.get("data", {}).get(MIME)
            if isinstance(report, dict):
                self._report(cell_index, report)
        elif msg["msg_type"] == "stream" and self._events is not None:
            text = content["text"]
            self._logged_bytes += len(text)
            if self._logged_bytes <= LOG_LIMIT_BYTES:
                sys.stdout.write(text)
                sys.stdout.flush()
        return super().process_message(msg, cell, cell_index)

    def _report(self, index: int, report: dict[str, Any]) -> None:
        self._pending = (index, report)
        if time.monotonic() - self._reported_s >= EVERY_S:
            self._flush_progress()

    def _flush_progress(self) -> None:
        if self._pending is not None:
            index, report = self._pending
            self._pending = None
            self._reported_s = time.monotonic()
            self._emit("progress", cell=index, data=report)

    # ----------------------------------------------------------------------------------------------------- its end

    def _kernel_started(self) -> None:
        process = getattr(self.km.provisioner, "process", None)
        if process is None:  # a kernel that this host does not run
            return
        import psutil

        self._kernel_group = process.pid
        self._emit("kernel_started", pid=process.pid, created_s=psutil.Process(process.pid).create_time())

    def cancel(self) -> None:
        """Interrupt the kernel now, and kill it when that did not end the cell in time. The signal handler calls it."""
        self._emit("cancel_requested")
        if self._kernel_group is None:
            return  # the loop over the cells checks for the request before the first one
        self._signal_kernel(signal.SIGINT)
        reaper = threading.Timer(self._cancel_grace_s, self._signal_kernel, args=(signal.SIGKILL,))
        reaper.daemon = True
        reaper.start()

    def _signal_kernel(self, number: signal.Signals) -> None:
        process = getattr(self.km.provisioner, "process", None) if self.km is not None else None
        if process is None or process.poll() is not None:
            return
        try:
            if number == signal.SIGKILL:
                os.killpg(process.pid, number)  # its workers too
            else:
                os.kill(process.pid, number)
        except ProcessLookupError:
            pass


class PotEngine(NBClientEngine):
    """What `papermill --engine pot` runs."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        log_output: bool = False,
        stdout_file: Any = None,
        stderr_file: Any = None,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        *,
        event_path: str | None = None,
        cancellation: Cancellation | None = None,
        cancel_grace_s: float = 10.0,
        helpers: str = "",
        **options: Any,
    ) -> Any:
        """Execute a prepared notebook.

        Args:
            nb_man: papermill's state of the notebook.
            kernel_name: which kernel to start.
            log_output, stdout_file, stderr_file: where papermill copies the kernel's output to.
            start_timeout: for the kernel's start, in seconds.
            execution_timeout: for each cell, in seconds; None for no limit.
            event_path: the JSONL to append to; by default `$POT_LAB_EVENTS`, else no events are kept.
            cancellation: handles signals already; by default a new one does, when this is the main thread.
            cancel_grace_s: how long an interrupted kernel may take before it is killed, in seconds.
            helpers: a folder whose modules the notebook may import; empty for none.
        """
        where = event_path or os.environ.get("POT_LAB_EVENTS")
        previous: Any = None
        own = cancellation is None and threading.current_thread() is threading.main_thread()
        if cancellation is None:
            cancellation = Cancellation()
            if own:
                previous = (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
                cancellation.handle_signals()
        client = PotNotebookClient(
            nb_man,
            events=JobEventLog(Path(where)) if where else None,
            cancellation=cancellation,
            cancel_grace_s=cancel_grace_s,
            helpers=helpers,
            timeout=execution_timeout,
            startup_timeout=start_timeout,
            iopub_timeout=IOPUB_TIMEOUT_S,
            kernel_name=kernel_name,
            log=logger,
            log_output=log_output,
            stdout_file=stdout_file,
            stderr_file=stderr_file,
        )
        cancellation.on_request(client.cancel)
        try:
            return client.execute()
        finally:
            cancellation.only_record()
            if previous is not None:
                signal.signal(signal.SIGTERM, previous[0])
                signal.signal(signal.SIGINT, previous[1])
