"""What one machine does not support: an error that says so, never ignored."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from zerotune_operator.api.jobs import InferenceJob, Job
from zerotune_operator.api.load import require_none
from zerotune_operator.api.manifest_yaml import Problem
from zerotune_operator.api.problems import find_unsupported
from zerotune_operator.backends.packages import package_problems
from zerotune_trainer.config.packages import is_installed


def require_local(job: Job) -> None:
    """See that one machine supports everything that the job asks for.

    Raises:
        InvalidManifestError: it does not.
    """
    packages = package_problems(job, is_installed, "run `pip install {module}` where zerotune is installed")
    unsupported = [*find_unsupported(job.kind, job.spec, "local"), *packages]
    require_none(unsupported or list(_disk_problems(job)), job)


def _disk_problems(job: Job) -> Iterator[Problem]:
    """What parameters on disk need, and is not installed here. Another process looks: it takes torch and DeepSpeed."""
    if isinstance(job, InferenceJob) and job.spec.zero.offload_param == "nvme":
        command = (sys.executable, "-m", "zerotune_trainer.async_io")
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.returncode:
            yield Problem(("spec", "zero", "offloadParam"), ": ".join(found.stderr.splitlines()[-2:]))
