"""Why a pod, or a Job without pods, waits for something that does not come by itself. Pure.

no pod       events of the Job: the API server rejects to create pods
not placed   `unscheduled`: the scheduler's reasons, or what keeps a scheduler from considering the pod
placed       states of the containers and events of the pod: image, volumes, Secrets, the container itself, an init
             container that does not end
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from zerotune_operator.backends.kubernetes import pod_state
from zerotune_operator.backends.kubernetes.creation import rejected_pods
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.kubernetes.troubles import MISSING, Waiting, first_match, trouble, waiting_for
from zerotune_operator.backends.kubernetes.unscheduled import CLAIM_REASON, is_unscheduled, waits_for_node

__all__ = ["MISSING", "TELLING_REASONS", "Waiting", "could_not_start", "job_waits_for", "waits_for"]

_REFERENCE = (
    "create it in the job's namespace, or name one that is there in credentials.secretName or backend.kubernetes.pod"
)
_KEY = "add the key, or name one that is there under backend.kubernetes.pod"
_OWN_CONFIGURATION = (
    "zerotune makes it again within seconds: there is nothing to do, unless something keeps deleting it"
)
_CONFIRM = "see `kubectl describe pod` and the settings under backend.kubernetes.pod"

_ROOT_USER = (
    "leave runAsUser out of securityContext under backend.kubernetes.pod.spec, or set it to a number other than 0, as "
    "pods run without privileges"
)
_SHARED_CLAIM = (
    "the claim's volume can be attached to one node or pod only: use a claim with the access mode ReadWriteMany, or "
    "topology.nodes: 1"
)

_CONTAINER_CONFIG = (
    trouble(r"\b(secret|configmap) \S+ not found", MISSING, _REFERENCE),
    trouble(r"find key .* in (Secret|ConfigMap)", MISSING, _KEY),
    trouble(r"runAsUser breaks non-root policy", "ContainerStart", _ROOT_USER),
    trouble(r"runAsNonRoot|non-root", "ContainerStart", "use an image whose user is a number other than 0"),
)
_MOUNTS = (
    trouble(r"^Multi-Attach error", "VolumeMount", _SHARED_CLAIM),
    trouble(r"\b(secret|configmap|persistentvolumeclaim) \S+ not found", MISSING, _REFERENCE),
    trouble(r"references non-existent (secret|config) key", MISSING, _KEY),
)
_MOUNT_HINT = "see that the volume can be attached to and mounted on this node"
_PASSES = re.compile(r"failed to sync (configmap|secret) cache")
"""What a kubelet reports of every other pod while it gets going."""
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
TELLING_REASONS = frozenset({_CREATION_REASON, _SANDBOX_REASON, CLAIM_REASON, *_MOUNT_REASONS})
"""The reasons of Events that are made anything of here."""
_INIT_SECONDS = 60
"""An init container that runs for longer is named: what it does may well take its time, or never end."""
_START_REASONS = {"CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun", "PostStartHookError"}
_START_HINT = "see that the image is one of zerotune's, with `tini` and `zerotune-launch`, for the node's architecture"


def waits_for(pod: Object, events: Iterable[Object], now: datetime | None = None) -> Waiting | None:
    """What a pod that has not started waits for; None: it comes by itself.

    Args:
        pod: The pod.
        events: Events about it.
        now: The time; without it, nothing is known of how long the pod has waited.
    """
    about = _about(events, "Pod", pod_state.name(pod))
    if is_unscheduled(pod) and (found := waits_for_node(pod, about, now)):
        return found
    for container, state in pod_state.container_states(pod):
        if (waiting := state.get("waiting")) and (found := _container(pod, container, waiting)):
            return _of_ours(pod, found)
    if setup := _setup(about):
        return _of_ours(pod, setup)
    return _init_container(pod, now) if now else None


def job_waits_for(events: Iterable[Object], job: str) -> Waiting | None:
    """Why the pods of a Job cannot be created; None: nothing is known that keeps it from creating them."""
    messages = [event["message"] for event in _about(events, "Job", job) if event.get("reason") == _CREATION_REASON]
    return rejected_pods(messages[-1]) if messages else None


def could_not_start(reason: str, message: str) -> Waiting | None:
    """A container that the runtime could not start, by the reason that the kubelet gives."""
    if reason not in _START_REASONS:
        return None
    return waiting_for("ContainerStart", f"the container cannot be started ({reason}): {message}", _START_HINT)


def _of_ours(pod: Object, found: Waiting) -> Waiting:
    """What a pod waits for, with another hint where that is for the operator to make: its configuration."""
    ours = re.search(rf'(configmap|secret) "{re.escape(str(pod_state.job_of(pod)))}" not found', found.message)
    return found.model_copy(update={"hint": _OWN_CONFIGURATION}) if ours else found


def _container(pod: Object, container: str, waiting: Object) -> Waiting | None:
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _PULL_REASONS:
        return _pull(pod, container, reason, message)
    if reason == "CreateContainerConfigError":
        found = first_match(_CONTAINER_CONFIG, message)
        return found or waiting_for("ContainerStart", f"the container cannot be set up: {message}", _CONFIRM)
    return could_not_start(reason, message)


def _init_container(pod: Object, now: datetime) -> Waiting | None:
    """An init container that takes long: nothing else says why the launcher does not start."""
    found = pod_state.init_container(pod)
    if found is None or (now - found[1]).total_seconds() < _INIT_SECONDS:
        return None
    name, began = found
    return waiting_for(
        "InitContainer",
        f"the init container {name} has not ended: it runs since {began:%Y-%m-%dT%H:%M:%SZ}, and the launcher starts "
        "after it",
        f"see `kubectl logs {pod_state.name(pod)} -c {name}` and initContainers under backend.kubernetes.pod.spec; one "
        "that is to run beside the launcher needs restartPolicy: Always",
    )


def _pull(pod: Object, container: str, reason: str, message: str) -> Waiting:
    images = {one["name"]: one.get("image") for one in pod["spec"].get("containers", ())}
    image = images.get(container) or f"of container {container}"
    answer = _PULL_PREAMBLE.sub("", message)
    hint = "see the image's name (backend.kubernetes.image) and what may pull it (backend.kubernetes.imagePullSecrets)"
    if reason == "ErrImageNeverPull":
        hint = "load the image onto the node, or set another pull policy"
    return waiting_for("ImagePull", f"the image {image} cannot be pulled: {answer or reason}", hint)


def _setup(events: Sequence[Object]) -> Waiting | None:
    """What the kubelet message last of a pod whose containers have yet to be made."""
    readers: dict[str, Callable[[str], Waiting]] = {
        **dict.fromkeys(_MOUNT_REASONS, _mount),
        _SANDBOX_REASON: lambda message: waiting_for("ContainerStart", message, "see the node's network and runtime"),
    }
    failed = [event for event in events if event.get("reason") in readers and not _PASSES.search(event["message"])]
    return readers[failed[-1]["reason"]](failed[-1]["message"]) if failed else None


def _mount(message: str) -> Waiting:
    return first_match(_MOUNTS, message) or waiting_for("VolumeMount", message, _MOUNT_HINT)


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
