"""Why a job could not be started, found or resumed."""

from __future__ import annotations

from pot_lab.errors import PotLabError


class BadJobParameters(PotLabError):
    """A notebook's parameters must be JSON values under Python names, its id a plain file name."""


class NotebookUnusable(PotLabError):
    """The file is not a notebook that a job can run."""


class JobExists(PotLabError):
    """The job id is in use."""


class UnknownJob(PotLabError):
    """There is no job of this id in this home."""


class JobRunning(PotLabError):
    """The job's process still runs."""


class JobDone(PotLabError):
    """The job is done; there is nothing to resume."""


class StillRunning(PotLabError, TimeoutError):
    """The job did not end within the time that the caller waits."""
