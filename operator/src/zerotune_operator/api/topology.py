"""Where a job runs: nodes, ranks, backend, run policy."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from zerotune_operator.api.quantity import Quantity
from zerotune_trainer.config.base import JsonObject, Number, ObjectName, Rule, Settings

_LONGEST_SECONDS = 2**31 - 1
"""68 years, as in Kubernetes."""


class Accelerator(Settings):
    """What kind of GPU the nodes have."""

    resource: str = "nvidia.com/gpu"
    """Extended resource that a pod requests."""
    product: str | None = None
    """GPU product as the node label `nvidia.com/gpu.product` names it, e.g. NVIDIA-H100-80GB-HBM3."""
    memory: Quantity | None = None
    """Memory of one GPU, for the ZeRO ladder. Default: that of `product` where it is known."""


class Topology(Settings):
    """Nodes and ranks. Ranks, world size and addresses follow from it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.minNodes) || self.minNodes <= self.nodes",
            "minNodes must not exceed nodes: lower minNodes or raise nodes",
            "minNodes",
        ),
        Rule(
            "!has(self.processesPerNode) || self.gpusPerNode == 0",
            "processesPerNode is for nodes without GPUs, where gpusPerNode is 0: a GPU always gets one rank",
            "processesPerNode",
        ),
        Rule(
            "self.gpusPerNode > 0 || !has(self.accelerator.product) && !has(self.accelerator.memory)",
            "accelerator describes the GPUs of a node, and gpusPerNode is 0: set gpusPerNode, or leave it out",
            "accelerator",
        ),
    )

    nodes: int = Field(default=1, ge=1, le=4096)
    """Nodes (pods, hosts) the job runs on."""
    min_nodes: int | None = Field(default=None, ge=1, le=4096)
    """Fewest nodes the job may go on with."""
    gpus_per_node: int = Field(default=0, ge=0, le=64)
    """GPUs of a node, a rank each. 0: the job runs on CPU."""
    processes_per_node: int | None = Field(default=None, ge=1, le=128)
    """Ranks of a node that runs on CPU. Default: 1. On GPUs it is `gpusPerNode`."""
    accelerator: Accelerator = Accelerator()
    """Kind of GPU."""
    cpu: Quantity | None = None
    """CPUs a node's pod requests."""
    memory: Quantity | None = None
    """Memory a node's pod is given, for the ZeRO ladder and as the pod's request and limit."""


class RunPolicy(Settings):
    """What happens around a run."""

    suspend: bool = False
    """Stop the pods after a checkpoint and keep everything else; set back to false, the job goes on from there."""
    max_restarts: int = Field(default=3, ge=0)
    """How often a failed job starts again from its last checkpoint. Configuration and data errors are never retried,
    preemption and eviction do not count."""
    active_deadline_seconds: int | None = Field(default=None, ge=1, le=_LONGEST_SECONDS)
    """The job fails when it has run this long, restarts included."""
    ttl_seconds_after_finished: int | None = Field(default=None, ge=0, le=_LONGEST_SECONDS)
    """The finished resource is deleted after this time."""
    hang_timeout_seconds: int = Field(default=1800, ge=10, le=_LONGEST_SECONDS)
    """A rank without progress for this long is a hang: the rank is named and the job restarts."""
    queue: str | None = Field(default=None, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    """Kueue LocalQueue that admits the job; of a job that waits or runs already, its next attempt."""
    priority_class: ObjectName | None = None
    """PriorityClass of the pods; of a job that waits or runs already, of its next attempt."""


class KubernetesBackend(Settings):
    """Pods of this cluster."""

    image: str | None = None
    """Trainer image. Default: the one the operator was installed with."""
    image_pull_secrets: list[ObjectName] = Field(default=[], max_length=16)
    """Secrets that pull the image."""
    service_account_name: ObjectName | None = None
    """ServiceAccount of the pods. No token is mounted."""
    shared_memory: Quantity | None = None
    """Size of `/dev/shm`. Default: half of the pod's memory."""
    pod: JsonObject = Field(default={}, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
    """A pod template (metadata, spec) merged over the generated one as a strategic merge patch: node selector,
    tolerations, affinity, volumes, environment, further resources."""


class SageMakerBackend(Settings):
    """Training jobs of Amazon SageMaker."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.subnets.size() > 0) == (self.securityGroupIds.size() > 0)",
            "subnets and securityGroupIds go together: give both or neither",
            "securityGroupIds",
        ),
    )

    instance_type: str = Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")
    """Instance type, e.g. ml.p5.48xlarge. `topology.nodes` is the instance count."""
    image: str | None = None
    """Image in ECR."""
    role_arn: str | None = Field(default=None, pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$")
    """Execution role. Default: discovered."""
    region: str | None = None
    """AWS region. Default: the operator's."""
    volume_size_gb: int = Field(default=300, ge=1, le=16384)
    """Storage of an instance."""
    job_name_prefix: str | None = Field(default=None, max_length=40, pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*$")
    """What job names begin with. Default: the resource's name."""
    keep_alive_seconds: int | None = Field(default=None, ge=1, le=3600)
    """Warm pool: how long instances are kept after the job."""
    max_runtime_seconds: int = Field(default=86400, ge=1, le=2419200)
    """Longest run."""
    spot: bool = False
    """Use managed spot instances; needs checkpoints on S3."""
    subnets: list[str] = Field(default=[], max_length=16)
    """Subnets of the VPC the instances are in; goes with `securityGroupIds`."""
    security_group_ids: list[str] = Field(default=[], max_length=5)
    """Security groups of the VPC; goes with `subnets`."""
    kms_key_id: str | None = None
    """KMS key that encrypts volumes and output."""
    tags: dict[str, str] = Field(default={}, max_length=40)
    """Tags of the training jobs, besides those of zerotune."""


class LocalBackend(Settings):
    """Processes of this machine; nodes are loopback addresses."""


class Backend(Settings):
    """Exactly one of the three. Default: kubernetes under the operator, local under `zerotune run`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.kubernetes), has(self.sagemaker), has(self.local)].filter(x, x).size() <= 1",
            "give one of kubernetes, sagemaker and local: a job runs in one place",
        ),
    )

    kubernetes: KubernetesBackend | None = None
    """Pods of this cluster."""
    sagemaker: SageMakerBackend | None = None
    """Amazon SageMaker training jobs."""
    local: LocalBackend | None = None
    """Processes of this machine."""


class Parallelism(Settings):
    """How one model replica is split. Data parallelism is what remains: ranks / (tensor x sequence x pipeline)."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.pipeline == 1 || self.tensor == 1 && self.sequence == 1",
            "pipeline does not go together with tensor or sequence: set one of them to 1",
            "pipeline",
        ),
    )

    tensor: int = Field(default=1, ge=1)
    """Ranks that share each layer (tensor parallelism)."""
    sequence: int = Field(default=1, ge=1)
    """Ranks that share each sequence (Ulysses)."""
    pipeline: int = Field(default=1, ge=1)
    """Stages the layers are dealt to."""


class Adapter(Settings):
    """Train a low-rank adapter instead of all parameters."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.quantization) || self.type == 'qlora'",
            "quantization is for type: qlora; lora keeps the base as it is: set type: qlora, or leave quantization out",
            "quantization",
        ),
    )

    type: Literal["lora", "qlora"]
    """LoRA, or LoRA over a quantized base."""
    quantization: Literal["nf4", "fp4", "int8"] | None = None
    """Number format of a qlora base (bitsandbytes). Default: nf4."""
    r: int = Field(default=16, ge=1)
    """Rank of the adapter."""
    alpha: int = Field(default=32, ge=1)
    """Scale of the adapter: alpha / r."""
    dropout: Number = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: list[str] = Field(default=["all-linear"], min_length=1, max_length=256)
    """Modules that get an adapter, by name; `all-linear`: every linear layer but the head."""
