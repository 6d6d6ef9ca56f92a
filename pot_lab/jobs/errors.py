"""Why a job could not be started, found or resumed."""

from __future__ import annotations

from pot_lab.errors import PotLabError


class BadJobParameters(PotLabError):
    """A notebook's parameters must be JSON values under Python names, its id a plain file name.

    What to do: pass numbers, texts, booleans, lists and objects, under names that Python accepts.
    """


class NotebookUnusable(PotLabError):
    """The file is not a notebook that a job can run.

    What to do: pass the path of a notebook that opens in Jupyter and has a Python kernel.
    """


class JobExists(PotLabError):
    """The job id is in use.

    What to do: choose another id, or resume the job.
    """


class UnknownJob(PotLabError):
    """There is no job of this id in this home.

    What to do: check the id and `POT_LAB_HOME`.
    """


class JobRunning(PotLabError):
    """The job's process still runs.

    What to do: wait for it, or cancel it first.
    """


class JobDone(PotLabError):
    """The job is done; there is nothing to resume.

    What to do: start a new job.
    """


class StillRunning(PotLabError, TimeoutError):
    """The job did not end within the time that the caller waits.

    What to do: wait longer, or cancel it.
    """


class OrderUnusable(PotLabError):
    """An order cannot be worked on, and another try would not change that; the message says why.

    What to do: nothing: the loop puts the order away and goes on with the others.
    """


class LoopRunning(PotLabError):
    """Another process mines in this role for this account already. Two would lose each other's salts, and with them the
    bonds of their claims.

    What to do: stop the other process, or mine with another account.
    """
