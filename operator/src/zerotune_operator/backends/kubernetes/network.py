"""How the pods of a job are found, and who may reach them. Pure."""

from __future__ import annotations

from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.objects import (
    COMPONENT_LABEL,
    Object,
    labels,
    metadata,
    selector,
    service_name,
)

PROGRESS_PORT_NAME = "progress"
"""Name of the launchers' port, by which metrics are scraped too."""


def service(job: Job, progress_port: int) -> Object:
    """The headless Service that gives the pods of every attempt their names in DNS.

    Pods find each other before any of them is ready, so it publishes them at once.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(job, service_name(job), labels(job, "trainer")),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {COMPONENT_LABEL: "trainer", **selector(job)},
            "ports": [
                {
                    "name": PROGRESS_PORT_NAME,
                    "port": progress_port,
                    "targetPort": PROGRESS_PORT_NAME,
                    "protocol": "TCP",
                }
            ],
        },
    }


def network_policy(job: Job, progress_port: int, installation: Installation) -> Object:
    """The pods of a job reach each other at every port, as gloo and NCCL choose theirs; the operator and what scrapes
    metrics may ask for progress, from their namespaces.

    Nothing else reaches them. What they may reach is left to the namespace's own policies.
    """
    askers = dict.fromkeys((installation.operator_namespace, *installation.monitoring_namespaces))
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(job, service_name(job), labels(job, "trainer")),
        "spec": {
            "podSelector": {"matchLabels": selector(job)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{"podSelector": {"matchLabels": selector(job)}}]},
                {"from": [_namespace(name) for name in askers], "ports": [{"port": progress_port, "protocol": "TCP"}]},
            ],
        },
    }


def _namespace(name: str) -> Object:
    """All pods of a namespace, as a NetworkPolicyPeer."""
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
