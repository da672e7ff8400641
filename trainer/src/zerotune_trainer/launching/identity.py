"""Which job, attempt and host this process is for, by the environment of its pod. Torch-free.

A pod's labels and annotations come with the pod and reach its container as environment variables (the downward API).
The job's folder is mounted beside it, from an object that a kubelet looks up, and caches, by name: it may be that of
another job. So the two are compared before anything is read or written. Where nobody sets the variables, as on one
machine, there is nothing to compare.
"""

from __future__ import annotations

import os
import socket

from zerotune_trainer.config import InferConfig, TrainConfig
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import InternalError
from zerotune_trainer.hostfile import Host, Hostfile

HOST_VARIABLE = "ZEROTUNE_HOST"
UID_VARIABLE = "ZEROTUNE_JOB_UID"
ATTEMPT_VARIABLE = "ZEROTUNE_ATTEMPT"
DIGEST_VARIABLE = "ZEROTUNE_CONFIG_DIGEST"
HOST_INDEX_VARIABLE = "ZEROTUNE_HOST_INDEX"
"""Place of this host in the hostfile, from 0."""


def require_own_config(config: TrainConfig | InferConfig) -> None:
    """See that a configuration is the one that this pod was made for.

    Raises:
        InternalError: it is that of another job or attempt. It is an error of zerotune's, and another attempt helps.
    """
    found = {
        UID_VARIABLE: config.job.uid,
        ATTEMPT_VARIABLE: str(config.job.attempt),
        DIGEST_VARIABLE: config.digest(),
    }
    for variable, value in found.items():
        expected = os.environ.get(variable)
        if expected is not None and expected != value:
            raise InternalError(
                f"config.json is of another job or attempt: its {variable} would be {value}, this pod's is {expected}",
                "nothing was read or written; the next attempt gets a folder of its own. Where that fails too, see "
                "that the image (backend.kubernetes.image, backend.sagemaker.image) is of the version of the operator",
            )


def this_host(hostfile: Hostfile, name: str | None = None) -> Host:
    """The host this process runs on: by the name given, else `ZEROTUNE_HOST`, else `ZEROTUNE_HOST_INDEX`, else the
    machine's own name.

    Raises:
        ConfigurationError: the hostfile does not name it.
        InternalError: it has no host of that index.
    """
    given = name or os.environ.get(HOST_VARIABLE)
    by_index = None if given else host_by_index(hostfile)
    return by_index or hostfile.host(given or socket.gethostname())


def host_by_index(hostfile: Hostfile) -> Host | None:
    """The host that `ZEROTUNE_HOST_INDEX` names; None where nobody set it.

    A pod's index says which host it is. Its host name does not where it has that of its node (hostNetwork).

    Raises:
        InternalError: the hostfile has no host of that index.
    """
    index = os.environ.get(HOST_INDEX_VARIABLE)
    if index is None:
        return None
    if not index.isdecimal() or int(index) >= len(hostfile.hosts):
        raise InternalError(
            f"{HOST_INDEX_VARIABLE} is {index!r}, and the hostfile names {counted(len(hostfile.hosts), 'host')}",
            "the next attempt gets a folder of its own",
        )
    return hostfile.hosts[int(index)]
