"""Values that the chart is rendered with, by what they are for."""

from __future__ import annotations

from zerotune_devtools.chart import Object

VALUE_SETS: dict[str, Object] = {
    "default": {},
    "two-replicas": {"replicas": 2},
    "namespaces": {"watch": {"namespaces": ["team-a", "team-b"]}, "crds": {"keep": False}},
    "bare": {
        "crds": {"install": False},
        "userRoles": {"create": False},
        "networkPolicy": {"enabled": False},
        "podSecurityContext": {"runAsUser": None, "runAsGroup": None},
        "resources": {"limits": None},
    },
    "placed": {
        "fullnameOverride": "tuner",
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "control-plane", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "zerotune"}},
            }
        ],
        "priorityClassName": "system-cluster-critical",
        "podAnnotations": {"example.com/team": "platform"},
        "serviceAccount": {"annotations": {"example.com/role": "zerotune"}},
    },
    "helm-certificate": {"admission": {"enabled": True}},
    "everything": {
        "replicas": 3,
        "watch": {"namespaces": ["team-a"]},
        "jobs": {"ttlSecondsAfterFinished": 0},
        "operator": {
            "env": [
                {"name": "HF_ENDPOINT", "value": "https://hub.example.com"},
                {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
            ]
        },
        "networkPolicy": {
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "egress": {"enabled": True, "ports": [443, 6443, 8443]},
        },
        "podPolicy": {"secrets": ["model-store"], "hostNamespaces": ["hostNetwork"], "capabilities": ["IPC_LOCK"]},
        "sagemaker": {"enabled": True, "namespaces": ["team-*"], "roleArn": "arn:aws:iam::123456789012:role/train"},
        "metrics": {
            "fromNamespaces": ["monitoring"],
            "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboard": {"enabled": True, "annotations": {"grafana_folder": "Training"}},
        },
        "admission": {
            "enabled": True,
            "failurePolicy": "Fail",
            "certificate": {"source": "secret", "secretName": "webhook-tls", "caBundle": "Y2VydGlmaWNhdGU="},
        },
    },
    "cert-manager": {"admission": {"enabled": True, "certificate": {"source": "cert-manager"}}},
}
