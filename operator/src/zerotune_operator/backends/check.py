"""Everything that can be checked of a job before its model is known, by the backend that is to run it. No I/O.

`zerotune validate`, `zerotune plan` and the webhook ask `check`. Reconcile and `zerotune run` meet the same functions
on their way, and so reject the same jobs with the same messages.
"""

from __future__ import annotations

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.origins import origins
from zerotune_operator.backends.kubernetes.installation import UNKNOWN_INSTALLATION, Installation
from zerotune_operator.backends.registry import BACKENDS, Target
from zerotune_operator.plan import check_job

ANY_MODEL = "file:///model"
"""Where the output of another job is does not matter to what is checked before it exists."""


def target_of(job: Job) -> Target:
    """The backend that the spec names. Where it names none, a job whose output is to lie on this machine, or nowhere in
    particular, is one for `zerotune run`; any other one is for a cluster.
    """
    backend, output = job.spec.backend, job.spec.output.uri
    if backend.kubernetes is not None:
        return Target.KUBERNETES
    if backend.sagemaker is not None:
        return Target.SAGEMAKER
    if backend.local is not None or output is None or output.startswith("file://"):
        return Target.LOCAL
    return Target.KUBERNETES


def check(job: Job, target: Target, installation: Installation = UNKNOWN_INSTALLATION) -> None:
    """See that a backend can run a job, as far as that can be known without its model.

    Args:
        job: The job.
        target: What is to run it.
        installation: What the operator was installed with, where that is known.

    Raises:
        ConfigurationError: it cannot; the message and its hint say what to change.
    """
    backend, model = BACKENDS[target], job.spec.model.uri or ANY_MODEL
    backend.require(job)
    origins(job)
    check_job(job, backend.outline(job, model))
    backend.check_probe(job, model, installation)
