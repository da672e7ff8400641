"""A job's overlay merged over the template of its pods, and judged by the operator's policy. Pure."""

from __future__ import annotations

from dataclasses import replace

from zerotune_operator.api.backend import KubernetesSpec
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import require_none
from zerotune_operator.api.manifest_yaml import Path
from zerotune_operator.backends.kubernetes.credentials import named_secrets
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.kubernetes.overlay import apply_overlay
from zerotune_operator.backends.kubernetes.pod_checks import check_pod, check_secrets
from zerotune_operator.backends.kubernetes.pod_schema import PLACE, check_merged, check_patch


def merge_overlay(template: Object, job: Job, installation: Installation, container: str) -> Object:
    """The template with the job's overlay merged in.

    Args:
        template: What a pod of the job is without its overlay.
        job: The job.
        installation: Its policy judges the result.
        container: Name of the container that does the job's work.

    Raises:
        ConfigurationError: the overlay cannot be merged, or the policy does not allow what it gives.
    """
    backend = job.spec.backend.kubernetes
    overlay = backend.pod if backend else {}
    require_none(check_patch(overlay), job)
    merged = apply_overlay(template, overlay, container)
    if overlay:
        require_none(check_merged(merged, job.spec.topology, container), job)
    spec = merged["spec"]
    # Pods of the host's network find no other pod by name unless their policy is to ask the cluster's DNS.
    dns = {"dnsPolicy": "ClusterFirstWithHostNet"} if spec.get("hostNetwork") and "dnsPolicy" not in spec else {}
    complete: Object = merged | {"spec": spec | dns}
    policy = installation.pod_policy
    credentials = named_secrets(job)
    require_none(check_secrets(credentials, policy), job)
    known = (*policy.secrets, *_mounted_secrets(template), *credentials.values())
    rejected = check_pod(complete, policy.model_copy(update={"secrets": known}), installation.trainer_image)
    # Of several containers that have it from their pod, each would say the same.
    require_none(dict.fromkeys(replace(each, path=_field_of(each.path, job)) for each in rejected), job)
    return complete


def _mounted_secrets(template: Object) -> list[str]:
    """The Secrets that the operator itself makes for an attempt and mounts: no job names them."""
    sources = [
        each for volume in template["spec"]["volumes"] for each in volume.get("projected", {}).get("sources", ())
    ]
    return [source["secret"]["name"] for source in sources if "secret" in source]


def _field_of(path: Path, job: Job) -> Path:
    """The field of a job that gives a field of its pods: that of its own where there is one, else the overlay's."""
    backend = job.spec.backend.kubernetes or KubernetesSpec()
    if path[0] == "metadata" and path[2] in getattr(backend.metadata, str(path[1])):
        return ("spec", "backend", "kubernetes", *path)
    own: dict[str, tuple[Path, object]] = {
        "serviceAccountName": (("backend", "kubernetes", "serviceAccountName"), backend.service_account_name),
        "priorityClassName": (("runPolicy", "priorityClass"), job.spec.run_policy.priority_class),
        "imagePullSecrets": (("backend", "kubernetes", "imagePullSecrets"), backend.image_pull_secrets),
        "image": (("backend", "kubernetes", "image"), backend.image),
    }
    found = next((field for name, (field, value) in own.items() if name in path and value), None)
    return (*PLACE, *path) if found is None else ("spec", *found)
