"""Jobs of the service: a bounded queue, one worker, progress, cancel."""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Union

from dlm_fiji.errors import DlmError, DlmWarning, SetupError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Cancelled", "Job", "JobQueue", "QueueFull"]

State = Literal["queued", "running", "done", "failed", "cancelled"]
Results = dict[str, Union["xr.DataArray", dict[str, Any]]]
Work = Callable[["Job"], Results]


class Cancelled(Exception):
    """The user cancelled; raised inside the step by its next report of progress."""


class QueueFull(DlmError):
    """As many jobs wait as are allowed to."""


@dataclass
class Job:
    """One piece of work; its fields may be read at any time."""

    operation: str
    work: Work = field(repr=False)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    state: State = "queued"
    done: int = 0
    total: int = 0
    message: str = "waiting"
    error: str = ""
    error_kind: str = ""
    notes: list[str] = field(default_factory=list)
    results: Results = field(default_factory=dict, repr=False)
    seconds: float = 0.0
    finished: float = 0.0
    cancel_wanted: threading.Event = field(default_factory=threading.Event, repr=False)

    def progress(self, done: int, total: int) -> None:
        """What a step calls now and then.

        Raises
        ------
        Cancelled
            Somebody asked for it.
        """
        if self.cancel_wanted.is_set():
            raise Cancelled
        self.done, self.total = int(done), int(total)

    def say(self, message: str) -> None:
        """What is being done now; also a place to be cancelled."""
        if self.cancel_wanted.is_set():
            raise Cancelled
        self.message, self.done, self.total = message, 0, 0

    def public(self) -> dict[str, Any]:
        """What a client sees."""
        return {
            "id": self.id,
            "operation": self.operation,
            "state": self.state,
            "progress": self.done / self.total if self.total else 0.0,
            "message": self.message,
            "error": self.error,
            "error_kind": self.error_kind,
            "notes": self.notes,
            "seconds": round(self.seconds, 3),
            "results": {name: "figures" if isinstance(r, dict) else "image" for name, r in self.results.items()},
        }


class JobQueue:
    """Jobs one after another in a thread: networks use every core, and ImageJ runs one thing at a time.

    Parameters
    ----------
    limit
        Jobs that may wait; one more is refused.
    kept
        Finished jobs whose results are kept.
    """

    def __init__(self, limit: int = 16, kept: int = 16) -> None:
        self._waiting: queue.Queue[Job | None] = queue.Queue(maxsize=limit)
        self._jobs: dict[str, Job] = {}
        self._kept = kept
        self._lock = threading.Lock()
        self._worker = threading.Thread(target=self._run, name="dlm_fiji jobs", daemon=True)
        self._worker.start()

    def submit(self, operation: str, work: Work) -> Job:
        """Put a job at the end of the queue.

        Raises
        ------
        QueueFull
            Too many wait already.
        """
        job = Job(operation, work)
        try:
            self._waiting.put_nowait(job)
        except queue.Full:
            raise QueueFull(
                f"{self._waiting.maxsize} jobs wait already; try again when some are done, or cancel some."
            ) from None
        with self._lock:
            self._jobs[job.id] = job
            self._forget_old()
        return job

    def get(self, identity: str) -> Job | None:
        """The job of that id, while it is remembered."""
        with self._lock:
            return self._jobs.get(identity)

    def forget(self, identity: str) -> None:
        """Cancel a job, or drop the results of a finished one."""
        with self._lock:
            job = self._jobs.get(identity)
            if job is None:
                return
            job.cancel_wanted.set()
            if job.state == "queued":
                job.state, job.message = "cancelled", "cancelled"
            elif job.state != "running":
                del self._jobs[identity]

    @property
    def busy(self) -> int:
        """Jobs that run or wait."""
        with self._lock:
            return sum(job.state in ("queued", "running") for job in self._jobs.values())

    def close(self) -> None:
        """Cancel what runs and end the worker."""
        with self._lock:
            for job in self._jobs.values():
                job.cancel_wanted.set()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._worker.join(timeout=10)

    def _forget_old(self) -> None:
        ended = sorted(
            (job for job in self._jobs.values() if job.state not in ("queued", "running")), key=lambda job: job.finished
        )
        for job in ended[: max(0, len(ended) - self._kept)]:
            del self._jobs[job.id]

    def _run(self) -> None:
        while True:
            job = self._waiting.get()
            if job is None:
                return
            if not job.cancel_wanted.is_set():
                self._work(job)

    def _work(self, job: Job) -> None:
        job.state, job.message = "running", "working"
        begin = time.perf_counter()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", DlmWarning)
                results = job.work(job)
            job.notes += [str(w.message) for w in caught if issubclass(w.category, DlmWarning)]
            if job.cancel_wanted.is_set():
                raise Cancelled
            job.results = results
            job.message, job.state = "done", "done"
        except Cancelled:
            job.message, job.state = "cancelled", "cancelled"
        except DlmError as error:
            _fail(job, str(error), type(error).__name__)
        except MemoryError:
            _fail(job, "There was not enough memory; use a smaller image or a smaller tile.", SetupError.__name__)
        except Exception as error:  # a fault of ours: the client gets a sentence, the log the traceback
            traceback.print_exc()
            _fail(job, f"An unexpected error stopped the job ({type(error).__name__}: {error}).", "Error")
        finally:
            job.seconds = time.perf_counter() - begin
            job.finished = time.time()


def _fail(job: Job, sentence: str, kind: str) -> None:
    job.error, job.error_kind = sentence, kind
    job.message, job.state = "failed", "failed"
