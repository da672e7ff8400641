"""The volumes of a pod, each with where it is mounted. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zerotune_operator.api.backend import KubernetesSpec
from zerotune_operator.api.quantity import parse_quantity
from zerotune_operator.api.topology import Topology
from zerotune_operator.backends.kubernetes.layout import CACHE_DIR, CLAIMS_DIR, CONFIG_MAPS_DIR, claim_of
from zerotune_operator.backends.kubernetes.objects import Object, given
from zerotune_operator.plan import Plan
from zerotune_trainer.config import InferConfig, TrainConfig
from zerotune_trainer.config.plugin import PluginFile
from zerotune_trainer.config.training import all_records

JOB_DIR = "/zerotune/job"
"""The job's folder: config.json, hostfile, deepspeed.json, and what the ranks of the attempt know each other by."""


@dataclass(frozen=True)
class Mount:
    """A volume of a pod and its place in the container."""

    name: str
    path: str
    source: Object
    """As a volume of the pod has it: `{emptyDir: {}}`."""
    read_only: bool = False

    def volume(self) -> Object:
        """The volume, as the pod lists it."""
        return {"name": self.name, **self.source}

    def mount(self) -> Object:
        """The mount, as the container lists it."""
        return given({"name": self.name, "mountPath": self.path, "readOnly": True if self.read_only else None})


def scratch() -> list[Mount]:
    """What takes the place of a root file system that can be written to. /tmp also holds the launcher's sockets."""
    return [Mount("tmp", "/tmp", {"emptyDir": {}}), Mount("cache", CACHE_DIR, {"emptyDir": {}})]  # noqa: S108


def offloaded(plan: Plan) -> list[Mount]:
    """The node's disk for parameters that are offloaded to it, where they are. A pod that fills more is evicted."""
    if plan.config.launch.offload_dir is None:
        return []
    return [Mount("offloaded", plan.config.launch.offload_dir, {"emptyDir": {"sizeLimit": str(disk_bytes(plan))}})]


def disk_bytes(plan: Plan) -> int:
    """Bytes that a pod writes to its node's disk for parameters that are offloaded to it, and a twentieth more, as the
    last block of each file is filled up; 0 where none are."""
    planned = plan.generation.disk_bytes if plan.generation else 0
    return planned * 21 // 20


def job_folder(attempt: str) -> Mount:
    """What the launcher receives: the ConfigMap and the Secret of an attempt, of one name, in one folder."""
    sources = [{"configMap": {"name": attempt}}, {"secret": {"name": attempt}}]
    return Mount("job", JOB_DIR, {"projected": {"sources": sources}}, read_only=True)


def plugin_folder(plugin: PluginFile | None) -> list[Mount]:
    """The ConfigMap that holds a plug-in, where one does."""
    source = plugin.config_map if plugin else None
    if source is None:
        return []
    content = {"name": source.name, "items": [{"key": source.key, "path": source.key}]}
    return [Mount("plugin", f"{CONFIG_MAPS_DIR}/{source.name}", {"configMap": content}, read_only=True)]


def shared_memory(backend: KubernetesSpec, topology: Topology) -> Mount:
    """Where NCCL and data workers exchange data; without this it has 64 MiB.

    What is in it counts as memory of the pod, which bounds it where no size is known.
    """
    size = backend.shared_memory
    if size is None and topology.memory is not None:
        size = str(int(parse_quantity(topology.memory)) // 2)
    return Mount("shared-memory", "/dev/shm", {"emptyDir": given({"medium": "Memory", "sizeLimit": size})})  # noqa: S108


def claims(read: Iterable[str], written: Iterable[str] = ()) -> list[Mount]:
    """The claims that URIs as a pod reads them lie on, once each, in the order of their names.

    Raises:
        ConfigurationError: what stands for a claim cannot be the name of one.
    """
    changed = {claim for uri in written if (claim := claim_of(uri))}
    every = changed | {claim for uri in read if (claim := claim_of(uri))}
    return [
        Mount(
            # By number: the name of a claim may be longer than that of a volume, and have dots.
            f"claim-{number}",
            f"{CLAIMS_DIR}/{claim}",
            {"persistentVolumeClaim": {"claimName": claim}},
            read_only=claim not in changed,
        )
        for number, claim in enumerate(sorted(every))
    ]


def claims_of(config: TrainConfig | InferConfig) -> list[Mount]:
    """The claims of a job, writable where results or checkpoints go."""
    checkpoints = config.checkpoint.uri if isinstance(config, TrainConfig) else None
    base = [config.base_uri] if config.base_uri else []
    return claims(
        [config.model_uri, *base, *reference_uris(config), *data_uris(config)],
        [config.output_uri, *([checkpoints] if checkpoints else [])],
    )


def reference_uris(config: TrainConfig | InferConfig) -> list[str]:
    """Where the model lies that `preference.referenceModel` names."""
    preference = config.preference if isinstance(config, TrainConfig) else None
    return [preference.reference_model.uri] if preference and preference.reference_model else []


def data_uris(config: TrainConfig | InferConfig) -> list[str]:
    """What the data of a job is read from, and code of the user's."""
    if isinstance(config, InferConfig):
        uris = list(config.data.uris)
    else:
        uris = [uri for part in all_records(config.data, config.evaluation).values() for uri in part.uris]
    script = config.script if isinstance(config, TrainConfig) else None
    return [*uris, *([script.file] if script else []), *([config.plugin.uri] if config.plugin else [])]
