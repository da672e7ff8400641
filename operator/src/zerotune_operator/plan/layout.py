"""What only a backend knows of where a job runs: names, folders, ports, memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class RuntimeLayout:
    """Where a job runs. A backend makes one; the plan is made of it and the spec, and of nothing else."""

    hosts: tuple[str, ...]
    """Name of each node as the others resolve it, in rank order: `topology.nodes` of them for each replica."""
    resolve: Callable[[str], str]
    """A URI of the spec as the ranks read it: `pvc://CLAIM/PATH` where the claim is mounted, the rest as it is."""
    model_uri: str
    """The model's folder as the ranks read it, also where the spec names a FineTuneJob."""
    output_uri: str
    """Folder that receives the result."""
    checkpoint_uri: str
    """Folder of the checkpoints."""
    cache_dir: str
    """Folder for tokenized data and fetched models, on every node."""
    offload_dir: str
    """Folder on a disk of every node for parameters that are offloaded to it, of no other job."""
    model_source: str | None = None
    """The model as a user writes it, where ranks read it by another URI: what an adapter records as its base."""
    config_maps_uri: str = ""
    """Folder of the ConfigMaps that the spec names, each in a folder of its name; empty where there are none."""
    backend: Literal["kubernetes", "sagemaker", "local"] = "local"
    """What runs the job."""
    master_port: int = 29500
    """Port on the first host where the process group meets."""
    progress_port: int = 9400
    """Port of every host's launcher."""
    threads_per_rank: int = 1
    """CPU threads a rank computes with."""
    device_bytes: int | None = None
    """Memory of one accelerator, where the backend knows better than the spec."""
    node_bytes: int | None = None
    """Memory of one node that its ranks may fill, where the backend knows better than the spec."""
    name_resolution_timeout_seconds: int = 300
    """How long the names of the hosts may take to resolve."""
    instance_type: str | None = None
    """What the nodes are, where the backend has instance types."""
    gpus_per_node: int | None = None
    """GPUs of a node, where they are those of its instance type whatever the spec says."""
    alternatives: tuple[RuntimeLayout, ...] = ()
    """Of a job that gets one of several instance types: the layout on each, in order of preference. This one is the
    first of them."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Instance types that it cannot get, and why."""
