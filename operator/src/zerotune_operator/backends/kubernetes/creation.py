"""Why the API server creates no pod for a Job, by the message of the Job's FailedCreate event. Pure.

Error creating: pods "NAME-0-x7k2p" is forbidden: REASON       an admission plugin, a policy or a quota denies the pod
Error creating: Pod "NAME-0-x7k2p" is invalid: REASON          the pod breaks a rule, often after admission changed it
Error creating: admission webhook "W" denied the request: ...  a webhook denies the pod
Error creating: Internal error occurred: failed calling ...    a webhook does not answer

The Job controller tries again and again, each time with a pod of another name: the name is no part of the reason.
"""

from __future__ import annotations

import re

from zerotune_operator.backends.kubernetes.quota_hints import exceeding_quota, required_by_quota
from zerotune_operator.backends.kubernetes.troubles import MISSING, Waiting, first_match, trouble, waiting_for

_PREAMBLE = re.compile(r'^Error creating: ([Pp]ods?( "[^"]*")? is (forbidden|invalid): )?')
_OVERLAY = "backend.kubernetes.pod"
_LIMITS = f"resources.limits of the container trainer under {_OVERLAY}"

_TROUBLES = (
    trouble(r"^exceeded quota: ", "QuotaExceeded", exceeding_quota),
    trouble(r"^failed quota: ", "QuotaExceeded", required_by_quota),
    trouble(
        r"^status unknown for quota: ",
        "QuotaExceeded",
        "the ResourceQuota is new, and the cluster has yet to count what it limits: it tries again by itself",
    ),
    trouble(
        r"^insufficient quota to match these scopes",
        "QuotaExceeded",
        "change runPolicy.priorityClass, or have a ResourceQuota made for the scopes that it names",
    ),
    trouble(
        r"^error looking up service account",
        MISSING,
        "create the ServiceAccount, or name one that is there in backend.kubernetes.serviceAccountName",
    ),
    trouble(r"^no PriorityClass with name", MISSING, "create the PriorityClass, or change runPolicy.priorityClass"),
    trouble(
        r"^pod rejected: RuntimeClass ",
        MISSING,
        f"create the RuntimeClass, or change runtimeClassName under {_OVERLAY}.spec",
    ),
    trouble(r"^violates PodSecurity ", "Forbidden", f"take what it names out of {_OVERLAY}"),
    trouble(
        r"^unable to validate against any security context constraint",
        "Forbidden",
        "have a SecurityContextConstraints such as nonroot-v2 granted to the pods' ServiceAccount "
        f"(backend.kubernetes.serviceAccountName), or set the fields that it names to null under {_OVERLAY}.spec."
        "securityContext, so that OpenShift chooses them",
    ),
    trouble(
        r"^\[?(maximum|minimum) \S+ usage per ",
        "Forbidden",
        f"keep topology and {_LIMITS} within the LimitRange of the namespace, or have it changed",
    ),
    trouble(
        r"^\[?\S+ max limit to request ratio per ",
        "Forbidden",
        f"topology.cpu is a request: set {_LIMITS} within the ratio of the namespace's LimitRange, or have it changed",
    ),
    trouble(
        r"^\[?spec\.\S*resources\.requests: Invalid value: .*must be less than or equal to \S+ limit",
        "Forbidden",
        "a LimitRange of the namespace sets the limit that topology exceeds: lower topology.cpu, set a higher limit "
        f"in {_LIMITS}, or have the LimitRange changed",
    ),
    trouble(
        r"^pod node label selector conflicts with its namespace",
        "Forbidden",
        f"leave topology.accelerator.product and nodeSelector under {_OVERLAY}.spec to what the namespace's annotation "
        "scheduler.alpha.kubernetes.io/node-selector allows, or have that changed",
    ),
    trouble(
        r"^pod tolerations .*conflict with its namespace",
        "Forbidden",
        "have the namespace's annotation scheduler.alpha.kubernetes.io/tolerationsWhitelist permit the pods' "
        f"tolerations, and take your own out of {_OVERLAY}.spec.tolerations",
    ),
    trouble(
        r"^(Validating|Mutating)AdmissionPolicy ",
        "Forbidden",
        f"change what the policy names, under topology, backend.kubernetes.metadata or {_OVERLAY}, or have the policy "
        "changed",
    ),
    trouble(
        r'^admission webhook "[^"]*" denied the request',
        "Forbidden",
        f"change what the webhook names, under topology, backend.kubernetes.metadata or {_OVERLAY}, or have its policy "
        "changed",
    ),
    trouble(
        r"^Internal error occurred: failed calling webhook ",
        "WebhookUnavailable",
        "an admission webhook of the cluster does not answer: see its Service and pods, or ask who runs the cluster",
    ),
    trouble(
        r"^unable to create new content in namespace \S+ because it is being terminated",
        "Forbidden",
        "the namespace is being deleted, and the job goes with it",
    ),
)
"""The reasons that are known, as they begin: what they name may have any text in it."""

_OTHERS = {
    "forbidden": ("Forbidden", f"change what it names, under topology or {_OVERLAY}, or have it permitted"),
    "invalid": ("PodCreation", f"change what it names, under topology or {_OVERLAY}"),
    None: ("PodCreation", "the cluster tries again by itself: where this stays, ask who runs the cluster"),
}
"""Class and hint of any other reason, by what the API server calls the pod."""


def rejected_pods(message: str) -> Waiting:
    """What a Job waits for whose pods are not created: in every case a class, the API server's message, and a hint.

    Args:
        message: The message of its last FailedCreate event.
    """
    preamble = _PREAMBLE.match(message)
    reason = message[preamble.end() :] if preamble else message
    failure_class, hint = _OTHERS[preamble[3] if preamble else None]
    found = first_match(_TROUBLES, reason) or waiting_for(failure_class, reason, hint)
    return found.model_copy(update={"message": f"no pod can be created: {reason}"})
