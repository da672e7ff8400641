"""What the API server merges of a pod template, and by which fields."""

from __future__ import annotations

_CONTAINERS = ("containers", "initContainers")

MERGE_KEYS: dict[str, tuple[str, ...]] = {
    "spec.containers": ("name",),
    "spec.initContainers": ("name",),
    "spec.volumes": ("name",),
    "spec.imagePullSecrets": ("name",),
    "spec.resourceClaims": ("name",),
    "spec.schedulingGates": ("name",),
    "spec.hostAliases": ("ip",),
    "spec.topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    **{
        f"spec.{containers}.{field}": keys
        for containers in _CONTAINERS
        for field, keys in {
            "env": ("name",),
            "ports": ("containerPort", "protocol"),
            "volumeMounts": ("mountPath",),
            "volumeDevices": ("devicePath",),
        }.items()
    },
}
"""The lists of a pod template whose items are merged, and the fields that identify an item together, as server-side
apply takes them: `x-kubernetes-list-map-keys` of Kubernetes' OpenAPI. `patchMergeKey` has only the first, by which
`kubectl patch` makes one port of TCP and UDP. Ephemeral containers are left out: a template has none."""

KEY_DEFAULTS = {"protocol": "TCP"}
"""What the API server takes a key for that is left out."""

UNIONS = {
    "spec.volumes": frozenset({"name"}),
    "spec.resourceClaims": frozenset({"name"}),
    **{f"spec.{containers}.env": frozenset({"name"}) for containers in _CONTAINERS},
    **{f"spec.{containers}.env.valueFrom": frozenset[str]() for containers in _CONTAINERS},
}
"""Objects that have one member of several: a volume is of one type, a variable has a value or comes from somewhere. A
patch with another member replaces ours. The set names the fields that are no members."""
