"""`spec.backend`: what runs the job, and the settings of each backend."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from zerotune_operator.api.quantity import Quantity
from zerotune_operator.api.sagemaker_channel import Channel
from zerotune_trainer.config.base import ObjectName, PodOverlay, Rule, Settings

LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]
"""Value of a label of a Kubernetes object."""
_AWS_NAME = r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*$"
# As the service model of botocore has them: botocore itself checks lengths, and no patterns.
AwsId = Annotated[str, StringConstraints(pattern=r"^[-0-9a-zA-Z]+$", max_length=32)]
"""Identifier of a subnet or security group."""
KmsKey = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9:/_-]+$", max_length=2048)]
"""Id, alias or ARN of a KMS key."""
InstanceTypeName = Annotated[str, StringConstraints(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$", max_length=63)]
"""Name of an instance type of SageMaker."""
MetricRegex = Annotated[str, StringConstraints(min_length=1, max_length=500)]
"""Regular expression over a line of a log."""
AwsValue = Annotated[str, StringConstraints(max_length=512)]
"""Value of a variable."""
_AWS_TAG = r"^[\p{L}\p{Z}\p{N}_.:/=+@-]*$"
AwsTagKey = Annotated[str, StringConstraints(pattern=_AWS_TAG, min_length=1, max_length=128)]
"""Key of a tag. A schema of the Kubernetes API says nothing of keys."""
AwsTagValue = Annotated[str, StringConstraints(pattern=_AWS_TAG, max_length=256)]
"""Value of a tag."""


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
    pod: PodOverlay = Field(default={}, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
    """A pod template (metadata, spec) merged over the generated one as a strategic merge patch: node selector,
    tolerations, affinity, volumes, environment, further resources."""


class SageMakerExperiment(Settings):
    """Where SageMaker Experiments lists the training jobs."""

    experiment_name: str | None = Field(default=None, max_length=120, pattern=_AWS_NAME)
    """Experiment, which is there."""
    trial_name: str | None = Field(default=None, max_length=120, pattern=_AWS_NAME)
    """Trial, which is there."""
    run_name: str | None = Field(default=None, max_length=120, pattern=_AWS_NAME)
    """Run."""


class SageMakerSpec(Settings):
    """Training jobs of Amazon SageMaker, one an attempt. Every instance reads and writes S3 itself with the execution
    role.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.instanceType) != (self.instanceTypes.size() > 0)",
            "give exactly one of instanceType and instanceTypes",
        ),
        Rule(
            "self.instanceTypes.all(name, self.instanceTypes.exists_one(other, other == name))",
            "SageMaker takes an instance type once: name each one once",
            "instanceTypes",
        ),
        Rule(
            "self.instanceTypes.size() == 0 || !self.spot",
            "SageMaker selects among instance types on demand alone: give spot one instanceType, or leave spot out",
            "spot",
        ),
        Rule(
            "self.instanceTypes.size() == 0 || !has(self.trainingPlanArn)",
            "a training plan is capacity of one instance type: give that one as instanceType, or leave it out",
            "trainingPlanArn",
        ),
        Rule(
            "(self.subnets.size() > 0) == (self.securityGroupIds.size() > 0)",
            "subnets and securityGroupIds go together: give both or neither",
            "securityGroupIds",
        ),
        Rule(
            "!has(self.maxWaitSeconds) || self.spot",
            "maxWaitSeconds is how long spot instances are waited for: set spot to true, or leave it out",
            "maxWaitSeconds",
        ),
        Rule(
            "!has(self.maxWaitSeconds) || !self.spot || self.maxWaitSeconds >= self.maxRuntimeSeconds",
            "maxWaitSeconds includes the run itself: it must not be below maxRuntimeSeconds",
            "maxWaitSeconds",
        ),
        Rule(
            "!has(self.keepAliveSeconds) || !self.spot",
            "a warm pool (keepAliveSeconds) cannot be of spot instances: leave one of the two out",
            "keepAliveSeconds",
        ),
        Rule(
            "self.channels.all(channel, self.channels.exists_one(other, other.channelName == channel.channelName))",
            "each channel is a folder of its own: give each another channelName",
            "channels",
        ),
        Rule(
            "self.subnets.size() > 0 || self.channels.all(channel, !has(channel.fileSystemDataSource))",
            "the instances reach a file system in its VPC alone: set subnets and securityGroupIds, or use s3Uri",
            "channels",
        ),
    )

    instance_type: InstanceTypeName | None = None
    """Instance type, e.g. ml.p5.48xlarge. `topology.nodes` is the instance count. Give this or `instanceTypes`."""
    instance_types: list[InstanceTypeName] = Field(default=[], max_length=5)
    """Instance types in order of preference: SageMaker takes the first that it has capacity of. Each is planned with
    the GPUs that it has, for the same global batch; those that the job does not fit on are left out."""
    image: str | None = Field(default=None, min_length=1, max_length=255)
    """Trainer image in ECR, ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG, of the region. Default: the operator's;
    `zerotune run` needs it."""
    role_arn: str | None = Field(
        default=None, max_length=2048, pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/?[a-zA-Z_0-9+=,.@/-]+$"
    )
    """Execution role: it reads the model and the data and writes the output. Default: the operator's; with
    `zerotune run` that of the notebook or of the credentials."""
    region: str | None = Field(default=None, pattern=r"^[a-z]{2,}(-[a-z]+)+-[0-9]$")
    """AWS region. Default: that of the environment of the operator or of `zerotune run`."""
    volume_size_gb: int = Field(default=300, ge=1, le=16384)
    """Storage of an instance that has none of its own."""
    job_name_prefix: str | None = Field(default=None, max_length=40, pattern=_AWS_NAME)
    """What job names begin with. Default: the resource's name."""
    keep_alive_seconds: int | None = Field(default=None, ge=0, le=21600)
    """Warm pool: how long instances are kept, and paid for, after the job. It may change while the job runs: 0 keeps
    none."""
    max_runtime_seconds: int = Field(default=86400, ge=1, le=2419200)
    """Longest run of an attempt."""
    max_pending_seconds: int | None = Field(default=None, ge=1800, le=2419200)
    """Longest wait of an attempt for capacity. Default: SageMaker's."""
    spot: bool = False
    """Use managed spot instances; needs checkpoints on S3."""
    max_wait_seconds: int | None = Field(default=None, ge=1, le=2419200)
    """Longest wait for spot instances, the run included. Default: `maxRuntimeSeconds`."""
    retry_attempts: int | None = Field(default=None, ge=1, le=30)
    """How often SageMaker itself starts a job again that failed of an internal error of its own."""
    subnets: list[AwsId] = Field(default=[], max_length=16)
    """Subnets of the VPC the instances are in; goes with `securityGroupIds`."""
    security_group_ids: list[AwsId] = Field(default=[], max_length=5)
    """Security groups of the VPC; goes with `subnets`."""
    enable_network_isolation: bool | None = None
    """Not supported: containers in isolation reach no S3. `subnets` keep them from the internet."""
    volume_kms_key_id: KmsKey | None = None
    """KMS key that encrypts the volumes."""
    output_kms_key_id: KmsKey | None = None
    """KMS key that encrypts the files that zerotune hands to the job. The result is encrypted as its bucket says."""
    encrypt_traffic: bool = False
    """Encrypt what the instances send each other, which costs time."""
    channels: list[Channel] = Field(default=[], max_length=19)
    """Folders that SageMaker gives the container: the job's URIs name them as `file:///opt/ml/input/data/CHANNEL/...`."""
    environment: dict[str, AwsValue] = Field(default={}, max_length=64)
    """Variables of the ranks' environment. They are visible to whoever may describe the job: no secrets."""
    tags: dict[str, AwsTagValue] = Field(default={}, max_length=40)
    """Tags of the training jobs, besides those of zerotune. They have letters and digits of any script, blanks and
    _.:/=+@-."""
    metric_definitions: dict[str, MetricRegex] = Field(default={}, max_length=40)
    """Metrics that SageMaker reads from the logs, by name: a regular expression whose group is the value. Those of the
    job's status and of `metrics.jsonl` need none."""
    training_plan_arn: str | None = Field(
        default=None, max_length=2048, pattern=r"^arn:aws[a-z-]*:sagemaker:[a-z0-9-]*:[0-9]{12}:training-plan/.+$"
    )
    """Training plan whose reserved capacity the job takes."""
    infrastructure_check: bool = False
    """Have SageMaker check the GPUs and their network before the ranks start."""
    remote_debug: bool = False
    """Let AWS Systems Manager open a shell in the container. It may change while the job runs."""
    experiment: SageMakerExperiment | None = None
    """Where SageMaker Experiments lists the jobs."""


CHANGEABLE = frozenset({"keepAliveSeconds", "remoteDebug"})
"""Fields of a SageMakerSpec that may change while the job runs: those that `UpdateTrainingJob` takes."""


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
