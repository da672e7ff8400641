"""`spec.backend`: what runs the job, and the settings of each backend."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from zerotune_operator.api.quantity import Quantity
from zerotune_trainer.config.base import JsonObject, ObjectName, Rule, Settings

LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]
"""Value of a label of a Kubernetes object."""


class ObjectMetadata(Settings):
    """Labels and annotations of every object that is made for the job, as policies of a cluster may demand them."""

    labels: dict[str, LabelValue] = Field(default={}, max_length=32)
    """Labels. Those of zerotune itself cannot be set."""
    annotations: dict[str, str] = Field(default={}, max_length=32)
    """Annotations. Those of zerotune itself cannot be set."""


class KubernetesSpec(Settings):
    """Pods of this cluster."""

    image: str | None = None
    """Trainer image. Default: the one the operator was installed with."""
    image_pull_secrets: list[ObjectName] = Field(default=[], max_length=16)
    """Secrets that pull the image."""
    service_account_name: ObjectName | None = None
    """ServiceAccount of the pods. No token is mounted."""
    shared_memory: Quantity | None = None
    """Size of `/dev/shm`. Default: half of the pod's memory."""
    metadata: ObjectMetadata = ObjectMetadata()
    """Labels and annotations of every object of the job: Jobs, pods, Service, ConfigMaps, NetworkPolicy."""
    pod: JsonObject = Field(default={}, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
    """A pod template (metadata, spec) merged over the generated one as a strategic merge patch: node selector,
    tolerations, affinity, volumes, environment, further resources."""


class SageMakerSpec(Settings):
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


class LocalSpec(Settings):
    """Processes of this machine; nodes are loopback addresses."""


class BackendSpec(Settings):
    """Exactly one of the three. Default: kubernetes under the operator, local under `zerotune run`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.kubernetes), has(self.sagemaker), has(self.local)].filter(x, x).size() <= 1",
            "give one of kubernetes, sagemaker and local: a job runs in one place",
        ),
    )

    kubernetes: KubernetesSpec | None = None
    """Pods of this cluster."""
    sagemaker: SageMakerSpec | None = None
    """Amazon SageMaker training jobs."""
    local: LocalSpec | None = None
    """Processes of this machine."""
