"""What every object of a job has in common: its name, its labels, its owner. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from zerotune_operator.api.backend import ObjectMetadata
from zerotune_operator.api.crd import KINDS
from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.names import ATTEMPT_LETTERS, stem

Object = dict[str, Any]
"""An object of the Kubernetes API, or a part of one."""

Component = Literal["trainer", "inspection"]

JOB_NAME_LABEL = "zerotune.dev/job-name"
JOB_KIND_LABEL = "zerotune.dev/job-kind"
JOB_UID_LABEL = "zerotune.dev/job-uid"
"""Tells a job from one that had its name before, whose pods may still save when those of the new one start."""
ATTEMPT_LABEL = "zerotune.dev/attempt"
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
FAILURE_ANNOTATIONS = (
    "batch.kubernetes.io/job-index-failure-count",
    "batch.kubernetes.io/job-index-ignored-failure-count",
)
"""On a pod, by the Job controller: which of the Job's pods it is, from 0."""
CONFIG_DIGEST_ANNOTATION = "zerotune.dev/config-digest"
"""On the Job of an attempt and its pods: `digest` of the config.json that they are to have."""
COMPONENT_LABEL = "app.kubernetes.io/component"

FIELD_MANAGER = "zerotune"
"""Who owns the fields that the operator sets."""

_OWN_PREFIXES = ("zerotune.dev", "batch.kubernetes.io", "kueue.x-k8s.io")
_OWN_KEYS = ("app.kubernetes.io/name", "app.kubernetes.io/managed-by", COMPONENT_LABEL, "job-name", "controller-uid")

_KEPT_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "labels",
    "ownerReferences",
    "creationTimestamp",
    "deletionTimestamp",
)
_SHORT_KINDS = {kind.name: kind.short_name for kind in KINDS}


def service_name(job: Job) -> str:
    """Name of the job's Service and NetworkPolicy, the same for all its attempts: `ftj-NAME-HASH`, `ij-NAME-HASH`.

    The kind comes first, as a Service's name must begin with a letter and a job's may begin with a digit.
    """
    return f"{_SHORT_KINDS[job.kind]}-{stem(job)}"


def attempt_name(job: Job, attempt: int) -> str:
    """Name of an attempt's Job and ConfigMap: `NAME-HASH-a0` of a FineTuneJob, `NAME-HASH-i0` of an InferenceJob."""
    return f"{stem(job)}-{ATTEMPT_LETTERS[job.kind]}{attempt}"


def inspection_name(job: Job) -> str:
    """Name of the Job that reads the shape of the model: `NAME-HASH-a-inspect`, `NAME-HASH-i-inspect`."""
    return f"{stem(job)}-{ATTEMPT_LETTERS[job.kind]}-inspect"


def selector(job: Job) -> dict[str, str]:
    """The labels of whatever belongs to the job, in any attempt."""
    return {JOB_NAME_LABEL: job.metadata.name, JOB_KIND_LABEL: job.kind, JOB_UID_LABEL: job.metadata.uid}


def labels(job: Job, component: Component, attempt: int | None = None) -> dict[str, str]:
    """The labels of one object of the job."""
    common = {"app.kubernetes.io/name": "zerotune", "app.kubernetes.io/managed-by": "zerotune"}
    number = given({ATTEMPT_LABEL: None if attempt is None else str(attempt)})
    return {**common, COMPONENT_LABEL: component, **selector(job), **number}


def metadata(job: Job, name: str, labels: dict[str, str], annotations: dict[str, str] | None = None) -> Object:
    """The metadata of an object that is deleted with the job."""
    owner = {
        "apiVersion": job.api_version,
        "kind": job.kind,
        "name": job.metadata.name,
        "uid": job.metadata.uid,
        "controller": True,
        # `true` would take the right to update the job's finalizers where the API server checks that
        # (OwnerReferencesPermissionEnforcement). All it gives is that `kubectl delete --cascade=foreground` waits.
        "blockOwnerDeletion": False,
    }
    named = {"name": name, "namespace": job.metadata.namespace}
    return named | template_metadata(job, labels, annotations) | {"ownerReferences": [owner]}


def template_metadata(job: Job, labels: dict[str, str], annotations: dict[str, str] | None = None) -> Object:
    """Labels and annotations of an object or a pod template: those of `backend.kubernetes.metadata`, and ours."""
    users = users_metadata(job)
    merged = users.annotations | (annotations or {})
    return {"labels": users.labels | labels, **given({"annotations": merged or None})}


def users_metadata(job: Job) -> ObjectMetadata:
    """What the user adds to every object of the job."""
    backend = job.spec.backend.kubernetes
    return backend.metadata if backend else ObjectMetadata()


def is_own_key(key: str) -> bool:
    """Whether a label or annotation is one that zerotune, the Job controller or a queue finds objects by."""
    return key in _OWN_KEYS or key.partition("/")[0] in _OWN_PREFIXES


def is_edited(found: Object, wanted: Object) -> bool:
    """Whether somebody else has changed the spec of an object that the operator made.

    What was changed or taken away differs from what is wanted. What was added is owned by another field manager, and
    cannot be distinguished from a default of the API server otherwise.
    """
    entries = found["metadata"].get("managedFields", ())
    is_added_to = any(entry["manager"] != FIELD_MANAGER and "f:spec" in entry.get("fieldsV1", {}) for entry in entries)
    return is_added_to or not _holds(found["spec"], wanted["spec"])


def _holds(found: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(name in found and _holds(found[name], value) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(_holds, found, wanted))
    return bool(found == wanted)


def trim_metadata(metadata: Object) -> Object:
    """The part of an object's metadata that says which one it is, whose, and whether it is terminating."""
    return some(metadata, _KEPT_METADATA)


def some(source: Object, names: Iterable[str]) -> Object:
    """The fields of these names, as far as there are any."""
    return {name: source[name] for name in names if source.get(name) is not None}


def given(fields: Object) -> Object:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}
