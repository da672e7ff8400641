"""What one machine does not support: an error that says so, never ignored."""

from __future__ import annotations

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import require_none
from zerotune_operator.api.problems import find_unsupported
from zerotune_operator.backends.packages import package_problems
from zerotune_trainer.config.packages import is_installed


def require_local(job: Job) -> None:
    """See that one machine supports everything that the job asks for.

    Raises:
        InvalidManifestError: it does not.
    """
    packages = package_problems(job, is_installed, "run `pip install {module}` where zerotune is installed")
    require_none((*find_unsupported(job.kind, job.spec, "local"), *packages), job)
