"""The one table of what a backend does not support yet, or never will: the field, the reason, the remedy.

`zerotune validate`, `zerotune plan`, `zerotune run`, the webhook and reconcile read it through `unsupported`. What no
backend supports is also in the CRDs, as rules: the API server rejects it without us. A line leaves the table when its
feature arrives; nothing else has to change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from zerotune_trainer.config.base import Rule

BackendName = Literal["kubernetes", "sagemaker", "local"]
BACKENDS: tuple[BackendName, ...] = ("kubernetes", "sagemaker", "local")


@dataclass(frozen=True)
class Unsupported:
    """A field, or some values of it, that some backends do not support."""

    field: str
    """Path below `spec`: `topology.minNodes`."""
    reason: str
    remedy: str
    backends: tuple[BackendName, ...] = BACKENDS
    values: tuple[str, ...] = ()
    """The values it is about; empty: any."""
    above: int | None = None
    """Or the numbers above this one."""
    schemes: tuple[str, ...] = ()
    """Or URIs of these schemes; the field holds one URI or a list of them."""

    @property
    def rule(self) -> Rule:
        """The same in CEL, for a spec with its defaults."""
        names = self.field.split(".")
        given = [f"has(self.{'.'.join(names[: length + 1])})" for length in range(len(names))]
        return Rule(f"!({' && '.join([*given, *self._condition()])})", f"{self.reason}: {self.remedy}", self.field)

    def _condition(self) -> Iterator[str]:
        if self.values:
            yield f"self.{self.field} in {list(self.values)}"
        if self.above is not None:
            yield f"self.{self.field} > {self.above}"
        if self.schemes:
            name = "uri" if self._is_list else f"self.{self.field}"
            found = " || ".join(f"{name}.startsWith('{scheme}://')" for scheme in self.schemes)
            yield f"self.{self.field}.exists(uri, {found})" if self._is_list else f"({found})"

    @property
    def _is_list(self) -> bool:
        return self.field.endswith("uris")

    def is_used_by(self, spec: dict[str, Any]) -> bool:
        """Whether a spec, as files have it and with its defaults, asks for this."""
        value: Any = spec
        for name in self.field.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is None:
            return False
        if self.schemes:
            return any(uri.partition("://")[0] in self.schemes for uri in (value if self._is_list else [value]))
        return value > self.above if self.above is not None else not self.values or value in self.values


def _not_yet(name: str, remedy: str, field: str, **values: Any) -> Unsupported:
    return Unsupported(field, f"{name} is not supported by this version of zerotune", remedy, **values)


_REFERENCE = "preference.referenceModel.uri"
_RECORDS = ("data.train", "data.validation", "data.replay", "evaluation.control", "evaluation.generation.data")
_URIS = {
    "FineTuneJob": (*(f"{part}.uris" for part in _RECORDS), "checkpoint.uri", _REFERENCE, "script.file"),
    "InferenceJob": ("data.uris",),
}
_URIS_OF_BOTH = ("model.uri", "plugin.file", "output.uri")
_WRITTEN = ("output.uri", "checkpoint.uri")
_CREDENTIALS = {
    "FineTuneJob": ("model", "data", "output", "checkpoint"),
    "InferenceJob": ("model", "data", "output"),
}
_KIND_ONLY = {
    "FineTuneJob": (
        Unsupported(
            "preference.syncReference",
            "a reference that follows the model is a second model in memory, which no rank holds",
            "leave syncReference out, or run dpo again with referenceModel naming the output of the last run",
        ),
        Unsupported(
            "topology.replicas",
            "replicas share the records of an InferenceJob, and the ranks of a FineTuneJob train one model together",
            "leave it out, and raise topology.nodes",
            above=1,
        ),
        _not_yet("parallelism.tensor above 1", "leave it out, or set it to 1", "parallelism.tensor", above=1),
        _not_yet("zero.offloadOptimizer: nvme", "use cpu or auto", "zero.offloadOptimizer", values=("nvme",)),
        _not_yet("zero.offloadParam: nvme in training", "use cpu or auto", "zero.offloadParam", values=("nvme",)),
    ),
    "InferenceJob": (
        Unsupported(
            "topology.replicas",
            "SageMaker ends a training job when one of its instances fails, so that no replica comes back alone",
            "leave it out: raise topology.nodes, over whose ranks the records are handed out as well",
            ("sagemaker",),
            above=1,
        ),
    ),
}
_PLUGIN_URIS: tuple[tuple[BackendName, str], ...] = (("sagemaker", "s3://BUCKET/KEY"), ("local", "file:///PATH"))
_BOTH_KINDS = (
    *(
        _not_yet(f"parallelism.{name} above 1", "leave it out, or set it to 1", f"parallelism.{name}", above=1)
        for name in ("sequence", "pipeline")
    ),
    Unsupported(
        "model.checkpoint",
        "which checkpoint is the last or the best is looked up on one machine alone",
        "name it, as checkpoint-500: the job's status and log have the steps",
        ("kubernetes",),
        ("last", "best"),
    ),
    Unsupported(
        "model.checkpoint",
        "jobs on SageMaker start from whole models",
        "leave model.checkpoint out, or run the job on a cluster or on this machine",
        ("sagemaker",),
    ),
    Unsupported(
        "backend.sagemaker.enableNetworkIsolation",
        "network isolation keeps the containers from S3, which the ranks read and write themselves",
        "leave it out, and set subnets and securityGroupIds of a VPC with no way out but its endpoint of S3",
    ),
    _not_yet("topology.minNodes", "leave it out: a job runs on all its nodes", "topology.minNodes"),
    Unsupported(
        "backend.sagemaker",
        "backend.sagemaker is for SageMaker, not for pods of this cluster",
        "leave it out to run the job here",
        ("kubernetes",),
    ),
    Unsupported(
        "backend.sagemaker",
        "backend.sagemaker is for SageMaker, not for this machine",
        "leave it out to run the job here",
        ("local",),
    ),
    *(
        Unsupported(
            "plugin.configMap", "ConfigMaps are for a cluster", f"name the plug-in as plugin.file: {uri}", (backend,)
        )
        for backend, uri in _PLUGIN_URIS
    ),
    *(
        Unsupported(field, f"{field} is for a cluster", f"leave it out: {remedy}", ("sagemaker",))
        for field, remedy in (
            ("topology.cpu", "the CPUs are those of backend.sagemaker.instanceType"),
            ("runPolicy.queue", "SageMaker queues its jobs itself"),
            ("runPolicy.priorityClass", "there are no pods on SageMaker"),
        )
    ),
    Unsupported(
        "backend.local",
        "backend.local is for one machine",
        "use `zerotune run`, or leave backend.local out",
        ("kubernetes",),
    ),
    *(
        Unsupported(field, f"{field} is for a cluster", f"leave it out: {remedy}", ("local",))
        for field, remedy in (
            ("backend.kubernetes", "`zerotune run` runs the job here; on a cluster use `kubectl apply`"),
            ("topology.cpu", "the ranks share the cores that `zerotune run` may use"),
            ("runPolicy.queue", "there is no queue on one machine"),
            ("runPolicy.priorityClass", "there are no pods on one machine"),
            ("runPolicy.ttlSecondsAfterFinished", "delete the job's folder when you no longer need it"),
        )
    ),
)


def _about_uris(kind: str) -> Iterator[Unsupported]:
    for field in (*_URIS_OF_BOTH, *_URIS[kind]):
        yield Unsupported(
            field,
            "pvc:// names a volume claim, which only a Kubernetes cluster has",
            "on one machine use file:///PATH",
            ("local",),
            schemes=("pvc",),
        )
        from_hub = field in ("model.uri", _REFERENCE) or field.endswith("uris")
        remedy = "use hf:// or s3://" if from_hub else "use s3://"
        # What is read may lie on a channel: backends/sagemaker/channels.py looks for it.
        schemes = ("pvc", "file") if field in _WRITTEN else ("pvc",)
        yield Unsupported(field, "SageMaker has no such volume", remedy, ("sagemaker",), schemes=schemes)


def _about_credentials(kind: str) -> Iterator[Unsupported]:
    for part in _CREDENTIALS[kind]:
        yield Unsupported(
            f"{part}.credentials",
            "Secrets are for a cluster",
            "leave it out, and set HF_TOKEN, AWS_ACCESS_KEY_ID, ... in the environment of `zerotune run`",
            ("local",),
        )
        yield Unsupported(
            f"{part}.credentials",
            "SageMaker has no Secrets",
            "leave it out: the execution role reads and writes S3"
            + ("; copy a model that needs a token to S3" if part == "model" else ""),
            ("sagemaker",),
        )


UNSUPPORTED: dict[str, tuple[Unsupported, ...]] = {
    kind: (*_KIND_ONLY[kind], *_BOTH_KINDS, *_about_uris(kind), *_about_credentials(kind))
    for kind in ("FineTuneJob", "InferenceJob")
}
"""Every line, by kind."""


def unsupported(kind: str, spec: dict[str, Any], backend: BackendName) -> Iterator[Unsupported]:
    """What a spec asks for that a backend does not support.

    Args:
        kind: FineTuneJob or InferenceJob.
        spec: As files have it, with its defaults, without nulls.
        backend: What is to run the job.
    """
    return (line for line in UNSUPPORTED[kind] if backend in line.backends and line.is_used_by(spec))


def rules(kind: str) -> tuple[Rule, ...]:
    """What no backend supports, for the CRD of a kind."""
    return tuple(line.rule for line in UNSUPPORTED[kind] if line.backends == BACKENDS)
