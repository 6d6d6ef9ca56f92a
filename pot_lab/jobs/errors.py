"""Why a job could not be started, found or resumed."""

from __future__ import annotations

from pot_lab.errors import PotLabError


class BadJobParameters(PotLabError):
    """A notebook's parameters must be JSON values under Python names."""


class NotebookUnusable(PotLabError):
    """What was offered as a job's notebook is not one."""


class JobExists(PotLabError):
    """The job id is in use."""


class UnknownJob(PotLabError):
    """There is no job of this id in this home."""


class JobRunning(PotLabError):
    """The job's process still runs."""


class JobDone(PotLabError):
    """The job came to its end; there is nothing to resume."""


class StillRunning(PotLabError, TimeoutError):
    """The job did not end within the time that the caller waits."""
