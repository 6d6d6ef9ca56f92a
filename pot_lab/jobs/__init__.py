"""Jobs: one papermill notebook for each order, run in a process of its own, and the loops that feed them.

Imports here are light; papermill, torch and the network load where they are used.
"""

from pot_lab.jobs.progress import Progress
from pot_lab.jobs.registry import Job
from pot_lab.jobs.runner import JobRunner

__all__ = ["Job", "JobRunner", "Progress"]
