"""A pod template against the operator's policy: every field that the policy does not allow. Pure.

Judged is the template as it is applied, the job's overlay merged in: what a field of the job alone says may be undone,
or added to, by another. Rules and the fields they are about are those of the Pod Security Standards (v1.36, profiles
`baseline` and `restricted`); those on names are the operator's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zerotune_operator.api.manifest_yaml import Path, Problem
from zerotune_operator.backends.kubernetes.objects import Object, is_own_key
from zerotune_operator.backends.kubernetes.pod_policy import PodPolicy, allows

_CONTAINERS = ("initContainers", "containers")
_HANDLERS = ("livenessProbe", "readinessProbe", "startupProbe", "postStart", "preStop")
_SAFE_SYSCTLS = frozenset(
    {"kernel.shm_rmid_forced"}
    | {f"net.ipv4.{name}" for name in ("ip_local_port_range", "ip_unprivileged_port_start", "tcp_syncookies")}
    | {f"net.ipv4.{name}" for name in ("ping_group_range", "ip_local_reserved_ports", "tcp_keepalive_time")}
    | {f"net.ipv4.{name}" for name in ("tcp_fin_timeout", "tcp_keepalive_intvl", "tcp_keepalive_probes")}
    | {f"net.ipv4.{name}" for name in ("tcp_rmem", "tcp_wmem")}
)
_SELINUX_TYPES = (None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_PROFILES = ("RuntimeDefault", "Localhost")
_UNCONFINED = "takes away what confines a container"


def check_pod(template: Object, policy: PodPolicy, trainer_image: str) -> Iterator[Problem]:
    """What the policy does not allow of a template, by the path of the field in it.

    Args:
        template: The pod template, as it is applied.
        policy: What is allowed.
        trainer_image: The image that is always allowed.
    """
    spec = template["spec"]
    yield from _metadata(template.get("metadata", {}), policy)
    yield from _names(spec, policy)
    yield from _host(spec, policy)
    yield from _volumes(spec, policy)
    yield from _secrets(spec, policy, ("spec",))
    if not policy.privileged:
        yield from _context(spec.get("securityContext", {}), ("spec", "securityContext"))
        yield from _app_armor_annotations(template)
    for kind in _CONTAINERS:
        for index, container in enumerate(spec.get(kind, ())):
            yield from _container(spec, container, policy, trainer_image, ("spec", kind, index))


def _metadata(metadata: Object, policy: PodPolicy) -> Iterator[Problem]:
    """Labels and annotations by which other controllers would give the pod what the policy does not."""
    for field in ("labels", "annotations"):
        for name in metadata.get(field, {}):
            if not is_own_key(name) and allows(policy.denied_metadata, name):
                remedy = "take the pattern out of podPolicy.deniedMetadata"
                yield _denied(("metadata", field, name), "is obeyed by other controllers", remedy)


def _names(spec: Object, policy: PodPolicy) -> Iterator[Problem]:
    for field, allowed, value in (
        ("serviceAccountName", (*policy.service_accounts, "default"), "serviceAccounts"),
        ("serviceAccount", (*policy.service_accounts, "default"), "serviceAccounts"),
        ("priorityClassName", policy.priority_classes, "priorityClasses"),
        ("nodeName", policy.node_names, "nodeNames"),
    ):
        name = spec.get(field)
        if name and not allows(allowed, name):
            yield _problem(("spec", field), f"is {name!r}", f"{value}: [{name}]")
    if spec.get("automountServiceAccountToken") is not False and not policy.service_account_token:
        yield _problem(("spec", "automountServiceAccountToken"), "is not false", "serviceAccountToken: true")


def _host(spec: Object, policy: PodPolicy) -> Iterator[Problem]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field) and field not in policy.host_namespaces:
            yield _problem(("spec", field), "is true: the pod would be in a namespace of its node", _host_value(field))


def _host_value(field: str) -> str:
    return f"hostNamespaces: [{field}]"


def _volumes(spec: Object, policy: PodPolicy) -> Iterator[Problem]:
    for index, volume in enumerate(spec.get("volumes", ())):
        path: Path = ("spec", "volumes", index)
        for kind in volume.keys() - {"name"}:
            if kind not in policy.volume_types:
                yield _problem((*path, kind), "is a volume of another kind", f"volumeTypes: [{kind}]")
        for number, source in enumerate(volume.get("projected", {}).get("sources") or ()):
            yield from _projected(source, policy, (*path, "projected", "sources", number))


def _projected(source: Object, policy: PodPolicy, path: Path) -> Iterator[Problem]:
    for kind in source:
        if kind == "serviceAccountToken" and not policy.service_account_token:
            yield _problem((*path, kind), "is a token of the ServiceAccount", "serviceAccountToken: true")
        elif kind not in (*policy.projected_sources, "serviceAccountToken"):
            yield _problem((*path, kind), "is a source of another kind", f"projectedSources: [{kind}]")


def _secrets(value: Any, policy: PodPolicy, path: Path) -> Iterator[Problem]:
    """Every Secret that is named, wherever a pod can name one."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _secrets(item, policy, (*path, index))
    elif isinstance(value, dict):
        for field, inner in value.items():
            place = (*path, field)
            named = _secret(field, inner, in_list_of=path[-2] if len(path) > 1 else None)
            if named is not None and not allows(policy.secrets, named):
                yield _names_secret(place, named)
            yield from _secrets(inner, policy, place)


def check_secrets(named: Mapping[Path, str], policy: PodPolicy) -> Iterator[Problem]:
    """The Secrets that a policy does not allow.

    Args:
        named: The Secrets, by the field that names them.
        policy: The operator's.
    """
    for path, name in named.items():
        if not allows(policy.secrets, name):
            yield _names_secret(path, name)


def _names_secret(path: Path, name: str) -> Problem:
    return _problem(path, f"names the Secret {name!r}", f"secrets: [{name}]")


def _secret(field: str, value: Any, in_list_of: object) -> str | None:
    """The Secret that a field names, if it is one that does."""
    if field == "secretName" or (field == "name" and in_list_of == "imagePullSecrets"):
        return str(value)
    is_reference = field in ("secretKeyRef", "secretRef", "nodePublishSecretRef", "secret")
    return str(value["name"]) if is_reference and isinstance(value, dict) and "name" in value else None


def _container(spec: Object, container: Object, policy: PodPolicy, trainer_image: str, path: Path) -> Iterator[Problem]:
    image = container.get("image", "")
    if image != trainer_image and not allows(policy.images, image):
        yield _problem((*path, "image"), f"is {image!r}", f"images: [{image}]")
    for index, port in enumerate(container.get("ports", ())):
        if port.get("hostPort") and not policy.host_ports:
            yield _problem((*path, "ports", index, "hostPort"), "takes a port of the node", "hostPorts: true")
    context, place = container.get("securityContext", {}), (*path, "securityContext")
    shared = spec.get("securityContext", {})
    if not policy.run_as_root:
        yield from _user(shared, context, place)
    if not policy.privileged:
        yield from _context(context, place)
        yield from _confined(shared, context, place)
        yield from _capabilities(context.get("capabilities", {}), policy, (*place, "capabilities"))
        yield from _handlers(container, path)


def _user(shared: Object, own: Object, path: Path) -> Iterator[Problem]:
    context = shared | own
    if context.get("runAsUser") == 0:
        yield _problem(_given_in("runAsUser", own, path), "is 0", "runAsRoot: true")
    elif context.get("runAsNonRoot") is not True:
        yield _problem(_given_in("runAsNonRoot", own, path), "is not true", "runAsRoot: true")


def _given_in(field: str, own: Object, path: Path) -> Path:
    """Where a field of a security context is given: in the container's own at `path`, else in that of the pod."""
    return (*path, field) if field in own else ("spec", "securityContext", field)


def _confined(shared: Object, own: Object, path: Path) -> Iterator[Problem]:
    """What a container has to say, or its pod for it."""
    context = shared | own
    if context.get("allowPrivilegeEscalation") is not False:
        yield _problem((*path, "allowPrivilegeEscalation"), "is not false: set it", "privileged: true")
    if context.get("seccompProfile", {}).get("type") not in _PROFILES:
        yield _problem(
            _given_in("seccompProfile", own, path), "is not RuntimeDefault: set its type", "privileged: true"
        )


def _context(context: Object, path: Path) -> Iterator[Problem]:
    """What neither a pod nor a container may say."""
    wrong = {
        "privileged": bool(context.get("privileged")),
        "procMount": context.get("procMount") not in (None, "Default"),
        "appArmorProfile": context.get("appArmorProfile", {}).get("type") == "Unconfined",
        # Its credential specifications name credentials of a domain, and the images are of Linux.
        "windowsOptions": bool(context.get("windowsOptions")),
        "seLinuxOptions": not _is_plain(context.get("seLinuxOptions", {})),
        "sysctls": any(each.get("name") not in _SAFE_SYSCTLS for each in context.get("sysctls", ())),
    }
    for field in (name for name, is_wrong in wrong.items() if is_wrong):
        yield _problem((*path, field), _UNCONFINED, "privileged: true")


def _is_plain(options: Object) -> bool:
    return options.get("type") in _SELINUX_TYPES and not options.get("user") and not options.get("role")


def _app_armor_annotations(template: Object) -> Iterator[Problem]:
    for name, profile in template.get("metadata", {}).get("annotations", {}).items():
        if name.startswith("container.apparmor.security.beta.kubernetes.io/") and profile == "unconfined":
            yield _problem(("metadata", "annotations", name), _UNCONFINED, "privileged: true")


def _capabilities(capabilities: Object, policy: PodPolicy, path: Path) -> Iterator[Problem]:
    if "ALL" not in capabilities.get("drop", ()):
        yield _problem((*path, "drop"), "lacks ALL: drop all, then add", "privileged: true")
    for name in capabilities.get("add", ()):
        if name not in policy.capabilities:
            yield _problem((*path, "add"), f"has {name}", f"capabilities: [{name}]")


def _handlers(container: Object, path: Path) -> Iterator[Problem]:
    """Probes and hooks are run by the node, which reaches what a pod does not."""
    for name, handler in (container | container.get("lifecycle", {})).items():
        for kind in ("httpGet", "tcpSocket") if name in _HANDLERS else ():
            if handler.get(kind, {}).get("host"):
                yield _problem((*path, name, kind, "host"), "has the node ask another host", "privileged: true")


def _problem(path: Path, found: str, value: str) -> Problem:
    return _denied(path, found, f"allow it, with podPolicy.{value}")


def _denied(path: Path, found: str, remedy: str) -> Problem:
    return Problem(
        path,
        f"{found}, which the operator's pod policy does not allow: leave it out, or have whoever installed the "
        f"operator {remedy} in the chart's values",
    )
