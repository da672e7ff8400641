"""Plans of the local backend, as `zerotune run` makes them."""

from __future__ import annotations

from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.local.backend import LocalBackend
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.local.layout import find_inputs
from zerotune_operator.plan import Plan


def plan_here(job: Job, folder: JobFolder, home: Home, attempt: int) -> Plan:
    """The plan of an attempt of a job on this machine."""
    return LocalBackend(job, folder, home, lock=-1).plan(find_inputs(job, home), attempt)
