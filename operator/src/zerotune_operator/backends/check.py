"""Everything that can be checked of a job before its model is known, by the backend that is to run it. No I/O.

`zerotune validate`, `zerotune plan` and the webhook ask `check`. Reconcile and `zerotune run` meet the same functions
on their way, and so reject the same jobs in the same words.
"""

from __future__ import annotations

from enum import StrEnum

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.support import BackendName
from zerotune_operator.backends.kubernetes.installation import UNKNOWN_INSTALLATION, Installation
from zerotune_operator.backends.kubernetes.layout import place
from zerotune_operator.backends.kubernetes.render import render_inspection
from zerotune_operator.backends.kubernetes.support import require_kubernetes
from zerotune_operator.backends.local.layout import outline
from zerotune_operator.backends.local.state import Home
from zerotune_operator.backends.local.support import require_local
from zerotune_operator.plan import check_job

_ANY_MODEL = "file:///model"
"""Where the output of another job is does not matter to what is checked here."""


class Target(StrEnum):
    """A backend that a job can be checked and planned for."""

    KUBERNETES = "kubernetes"
    LOCAL = "local"


def backend_of(job: Job) -> Target:
    """The backend that the spec names. Where it names none, a job whose output is to lie on this machine, or nowhere in
    particular, is one for `zerotune run`; any other one is for a cluster.
    """
    backend, output = job.spec.backend, job.spec.output.uri
    if backend.kubernetes is not None:
        return Target.KUBERNETES
    if backend.local is not None or output is None or output.startswith("file://"):
        return Target.LOCAL
    return Target.KUBERNETES


def check(job: Job, backend: BackendName, installation: Installation = UNKNOWN_INSTALLATION) -> None:
    """See that a backend can run a job, as far as that can be known without its model.

    Args:
        job: The job.
        backend: What is to run it.
        installation: What the operator was installed with, where that is known.

    Raises:
        ConfigurationError: it cannot; the message and its hint say what to change.
    """
    model = job.spec.model.uri or _ANY_MODEL
    if backend == "local":
        require_local(job)
        home = Home.of_environment()
        check_job(job, outline(job, home.job(job.kind, job.metadata.name), home, model))
    else:
        require_kubernetes(job)
        check_job(job, place(job, 0, model))
        render_inspection(job, model, installation)
