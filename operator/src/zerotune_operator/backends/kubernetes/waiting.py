"""Why a pod, or a Job without pods, waits for something that does not come by itself. Pure.

no pod       events of the Job: the API server refuses to create pods
not placed   the condition PodScheduled: the scheduler's reasons, resource by resource
placed       states of the containers and events of the pod: image, volumes, Secrets, the container itself
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pydantic import Field

from zerotune_operator.backends.kubernetes import pod_state
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.kubernetes.scheduling import scheduling_hint, scheduling_reasons
from zerotune_trainer.errors import Failure, TemporaryError

MISSING = "MissingReference"
"""Class of what waits for an object that is not there."""


class Waiting(Failure):
    """What a pod waits for. It is no end: the job goes on once it is there."""

    exit_code: int = Field(default=TemporaryError.exit_code, alias="exitCode")


class _Trouble(NamedTuple):
    """A kind of trouble, told by what a message says."""

    says: re.Pattern[str]
    failure_class: str
    hint: str


def _trouble(says: str, failure_class: str, hint: str) -> _Trouble:
    return _Trouble(re.compile(says), failure_class, hint)


_SERVICE_ACCOUNT = "create the ServiceAccount, or name one that is there in backend.kubernetes.serviceAccountName"
_REFERENCE = (
    "create it in the job's namespace, or name one that is there in credentials.secretName or backend.kubernetes.pod"
)
_KEY = "add the key, or name one that is there under backend.kubernetes.pod"
_CLAIM = "create the claim in the job's namespace, or name one that is there in pvc://CLAIM/PATH"
_OWN_CONFIGURATION = (
    "zerotune makes it again within seconds: there is nothing to do, unless something keeps deleting it"
)
_CONFIRM = "see `kubectl describe pod` and the settings under backend.kubernetes.pod"

_REFUSALS = (
    _trouble(r"exceeded quota", "QuotaExceeded", "ask for less under topology, or raise the namespace's ResourceQuota"),
    _trouble(r"failed quota", "QuotaExceeded", "the ResourceQuota wants topology.cpu and topology.memory to be given"),
    _trouble(r"looking up service account", MISSING, _SERVICE_ACCOUNT),
    _trouble(r"violates PodSecurity", "Forbidden", "take what it names out of backend.kubernetes.pod"),
    _trouble(
        r"(maximum|minimum) \S+ usage per",
        "Forbidden",
        "keep topology within the LimitRange of the namespace, or change it",
    ),
    _trouble(r"no PriorityClass", MISSING, "create the PriorityClass, or change runPolicy.priorityClass"),
    _trouble(
        r"admission webhook", "Forbidden", "an admission webhook of the cluster refuses the pods: see its message"
    ),
    _trouble(r"is forbidden|is invalid", "Forbidden", "change what it names: topology, backend.kubernetes.pod"),
)
"""What the API server says where it creates no pod for a Job, the most telling first."""

_CONTAINER_CONFIG = (
    _trouble(r"\b(secret|configmap) \S+ not found", MISSING, _REFERENCE),
    _trouble(r"find key .* in (Secret|ConfigMap)", MISSING, _KEY),
    _trouble(r"runAsNonRoot|non-root", "ContainerStart", "use an image whose user is a number other than 0"),
)
_MOUNTS = (
    _trouble(r"\b(secret|configmap|persistentvolumeclaim) \S+ not found", MISSING, _REFERENCE),
    _trouble(r"references non-existent (secret|config) key", MISSING, _KEY),
)
_MOUNT_HINT = "see that the volume can be attached to and mounted on this node"
_CREATION = re.compile(r'^Error creating: (pods "[^"]*" is (forbidden|invalid): )?')
_PASSES = re.compile(r"failed to sync (configmap|secret) cache")
"""What a kubelet says of every other pod while it gets going."""
# What comes before the answer of the registry, and the port that the question came from: both change with every try.
_PULL_PREAMBLE = re.compile(
    r'^Back-off pulling image "[^"]*"(: ErrImagePull: )?'
    r'|failed to (pull and unpack image|resolve reference) "[^"]*": '
    r"|read (udp|tcp) \S+->\S+: "
)
_PULL_REASONS = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
_CREATION_REASON = "FailedCreate"
_MOUNT_REASONS = {"FailedMount", "FailedAttachVolume"}
_SANDBOX_REASON = "FailedCreatePodSandBox"
TELLING_REASONS = frozenset({_CREATION_REASON, _SANDBOX_REASON, *_MOUNT_REASONS})
"""The reasons of Events that are made anything of here."""
_START_REASONS = {"CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun", "PostStartHookError"}
_START_HINT = "see that the image is one of zerotune's, with `tini` and `zerotune-launch`, for the node's architecture"


def waits_for(pod: Object, events: Iterable[Object]) -> Waiting | None:
    """What a pod that has not started waits for; None: it comes by itself."""
    placed = pod_state.condition(pod, "PodScheduled")
    if placed is not None and placed["status"] == "False":
        return _placement(placed)
    for container, state in pod_state.container_states(pod):
        if (waiting := state.get("waiting")) and (found := _container(pod, container, waiting)):
            return _of_ours(pod, found)
    found = _setup(_about(events, "Pod", pod_state.name(pod)))
    return _of_ours(pod, found) if found else None


def refused_pods(events: Iterable[Object], job: str) -> Waiting | None:
    """Why the pods of a Job cannot be created; None: they can."""
    said = [event["message"] for event in _about(events, "Job", job) if event.get("reason") == _CREATION_REASON]
    # Every try is for a pod of another name: without it the reason stays the same.
    return _first_match(_REFUSALS, _CREATION.sub("no pod can be created: ", said[-1])) if said else None


def could_not_start(reason: str, message: str) -> Waiting | None:
    """A container that the runtime could not start, by the reason that the kubelet gives."""
    if reason not in _START_REASONS:
        return None
    return _waiting("ContainerStart", f"the container cannot be started ({reason}): {message}", _START_HINT)


def _of_ours(pod: Object, found: Waiting) -> Waiting:
    """What a pod waits for, with another hint where that is for the operator to make: its configuration."""
    ours = re.search(rf'configmap "{re.escape(str(pod_state.job_of(pod)))}" not found', found.message)
    return found.model_copy(update={"hint": _OWN_CONFIGURATION}) if ours else found


def _placement(placed: Object) -> Waiting | None:
    if placed.get("reason") not in ("Unschedulable", "SchedulerError"):
        return None  # held back by a scheduling gate, which somebody will lift
    said = placed.get("message", "")
    if claim := re.search(r'persistentvolumeclaim "\S+" [^.]+', said):
        return _waiting(MISSING, claim[0], _CLAIM)
    if "unbound immediate PersistentVolumeClaims" in said:
        hint = "see `kubectl get pvc`: its storage class must be there and able to provide it"
        return _waiting(MISSING, "a PersistentVolumeClaim of the pod is not bound to a volume", hint)
    return _waiting("Unschedulable", scheduling_reasons(said), scheduling_hint(said))


def _container(pod: Object, container: str, waiting: Object) -> Waiting | None:
    reason, said = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _PULL_REASONS:
        return _pull(pod, container, reason, said)
    if reason == "CreateContainerConfigError":
        found = _first_match(_CONTAINER_CONFIG, said)
        return found or _waiting("ContainerStart", f"the container cannot be set up: {said}", _CONFIRM)
    return could_not_start(reason, said)


def _pull(pod: Object, container: str, reason: str, said: str) -> Waiting:
    images = {one["name"]: one.get("image") for one in pod["spec"].get("containers", ())}
    image = images.get(container) or f"of container {container}"
    answer = _PULL_PREAMBLE.sub("", said)
    hint = "see the image's name (backend.kubernetes.image) and what may pull it (backend.kubernetes.imagePullSecrets)"
    if reason == "ErrImageNeverPull":
        hint = "load the image onto the node, or set another pull policy"
    return _waiting("ImagePull", f"the image {image} cannot be pulled: {answer or reason}", hint)


def _setup(events: Sequence[Object]) -> Waiting | None:
    """What the kubelet said last of a pod whose containers have yet to be made."""
    readers: dict[str, Callable[[str], Waiting]] = {
        **dict.fromkeys(_MOUNT_REASONS, _mount),
        _SANDBOX_REASON: lambda said: _waiting("ContainerStart", said, "see the node's network and runtime"),
    }
    failed = [event for event in events if event.get("reason") in readers and not _PASSES.search(event["message"])]
    return readers[failed[-1]["reason"]](failed[-1]["message"]) if failed else None


def _mount(said: str) -> Waiting:
    return _first_match(_MOUNTS, said) or _waiting("VolumeMount", said, _MOUNT_HINT)


def _about(events: Iterable[Object], kind: str, name: str) -> list[Object]:
    """The events of one object, the latest last."""
    found = [event for event in events if _names(event["involvedObject"], kind, name)]
    return sorted(found, key=_last_seen)


def _names(reference: Object, kind: str, name: str) -> bool:
    return bool(reference.get("kind") == kind and reference.get("name") == name)


def _last_seen(event: Object) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((time for time in times if time), "")


def _first_match(troubles: Iterable[_Trouble], said: str) -> Waiting | None:
    found = next((trouble for trouble in troubles if trouble.says.search(said)), None)
    return _waiting(found.failure_class, said, found.hint) if found else None


def _waiting(failure_class: str, message: str, hint: str) -> Waiting:
    return Waiting(failure_class=failure_class, message=message, hint=hint)
