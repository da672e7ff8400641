"""What a cluster does not support: an error that says so, never ignored. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import require_none
from zerotune_operator.api.manifest_yaml import Problem
from zerotune_operator.api.problems import find_unsupported
from zerotune_operator.backends.kubernetes.layout import claim_of
from zerotune_operator.backends.kubernetes.pod_template import CONTAINER, backend_of
from zerotune_operator.backends.kubernetes.user_metadata import metadata_problems
from zerotune_operator.backends.packages import in_image, package_problems
from zerotune_operator.backends.uris import uris_of


def require_kubernetes(job: Job) -> None:
    """See that pods of a cluster support everything that the job asks for.

    Raises:
        InvalidManifestError: they do not.
    """
    found = find_unsupported(job.kind, job.spec, "kubernetes")
    remedy = "name an image that has {module} in backend.kubernetes.image"
    packages = package_problems(job, in_image(backend_of(job).image), remedy)
    require_none((*found, *_unreachable(job), *metadata_problems(job), *packages), job)


def _unreachable(job: Job) -> Iterator[Problem]:
    """Paths that are not there within a pod.

    A path exists in a pod where `backend.kubernetes.pod` mounts a volume; else it is the pod's own disk, which holds
    what the image brings along, cannot be written to, and goes away with the pod.
    """
    mounted = list(_mounted(job))
    own_image = backend_of(job).image is not None
    for field, uri, written in uris_of(job):
        if not uri.startswith("file://") or claim_of(uri):
            continue
        path = PurePosixPath(uri.removeprefix("file://"))
        place = ("spec", *field.split("."))
        if not path.is_absolute():
            yield Problem(place, f"is {uri!r}, a relative path, and a pod has no current folder: write file:///PATH")
        elif not any(path.is_relative_to(folder) for folder in mounted) and (written or not own_image):
            yield Problem(
                place,
                f"is {uri!r}, and pods have no volume there: use pvc://CLAIM/PATH or s3://, or mount a volume there "
                f"(`volumes` and, for the container {CONTAINER!r}, `volumeMounts` in backend.kubernetes.pod.spec)"
                + ("" if written else ", or name an image that has it in backend.kubernetes.image"),
            )


def _mounted(job: Job) -> Iterator[str]:
    """The folders where the user mounts volumes. A patch that is none is for the overlay to reject."""
    for container in _items(_part(backend_of(job).pod, "spec"), "containers"):
        if container.get("name") == CONTAINER:
            yield from (str(mount.get("mountPath")) for mount in _items(container, "volumeMounts"))


def _part(value: dict[str, Any], name: str) -> dict[str, Any]:
    part = value.get(name)
    return part if isinstance(part, dict) else {}


def _items(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    items = value.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
