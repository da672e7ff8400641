"""The variables of a pod that hold a job's credentials: single keys of the Secrets that it names. Pure.

A Secret is given to a pod by key, never as a whole: what else it holds reaches no rank. Which keys are read goes by the
URIs that the Secret is named beside, as a store or the Hub reads its own variables and no other ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.api.manifest_yaml import Path
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.kubernetes.volumes import data_uris, reference_uris
from zerotune_trainer.config import InferConfig, TrainConfig
from zerotune_trainer.config.sources import SecretReference


@dataclass(frozen=True)
class _Keys:
    """The keys of a Secret that are read for URIs of one scheme; each is the name of its variable, too."""

    required: tuple[str, ...]
    """A pod waits for these, and says which one is missing. The kubelet ignores a Secret that does not exist where all
    of its keys are optional."""
    optional: tuple[str, ...]

    def of(self, secret: str, needs_none: bool) -> Iterator[Object]:
        """The variables, each with its key of this Secret."""
        for key in self.required:
            yield _variable(key, {"name": secret, "key": key} | ({"optional": True} if needs_none else {}))
        for key in self.optional:
            yield _variable(key, {"name": secret, "key": key, "optional": True})


KEYS = {
    "hf": _Keys(("HF_TOKEN",), ("HF_ENDPOINT",)),
    "s3": _Keys(
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"),
    ),
}
"""By scheme of a URI. The other schemes are folders of a pod, which are read without credentials."""


@dataclass(frozen=True)
class Credentials:
    """A Secret of a job, and the URIs that it is for, as a pod reads them."""

    reference: SecretReference | None
    uris: Sequence[str]
    needs_none: bool = False
    """Whether a pod starts without the keys: what the URIs name may be public."""


def credentials_of(job: Job, config: TrainConfig | InferConfig) -> list[Credentials]:
    """The Secrets of an attempt, the one that counts most last."""
    spec = job.spec
    checkpoints = []
    if isinstance(job, FineTuneJob) and isinstance(config, TrainConfig):
        checkpoints = [Credentials(job.spec.checkpoint.credentials, [config.checkpoint.uri or config.output_uri])]
    return [
        # The base of an adapter and a reference may lie elsewhere, and be public.
        Credentials(spec.model.credentials, reference_uris(config), needs_none=True),
        Credentials(spec.model.credentials, [config.base_uri] if config.base_uri else [], needs_none=True),
        Credentials(spec.model.credentials, [config.model_uri]),
        Credentials(spec.data.credentials, data_uris(config)),
        *checkpoints,
        Credentials(spec.output.credentials, [config.output_uri]),
    ]


def credential_variables(credentials: Iterable[Credentials]) -> list[Object]:
    """The variables of a container, each with the key that it comes from.

    A process has one set of variables for a scheme: where two Secrets are for the same one, the later counts.
    """
    secrets = {
        uri.partition("://")[0]: (each.reference.secret_name, each.needs_none)
        for each in credentials
        if each.reference is not None
        for uri in each.uris
    }
    return [variable for scheme, keys in KEYS.items() if scheme in secrets for variable in keys.of(*secrets[scheme])]


def named_secrets(job: Job) -> dict[Path, str]:
    """The Secrets that a job names as credentials, by the field that does."""
    spec = job.spec
    named = {"model": spec.model.credentials, "data": spec.data.credentials, "output": spec.output.credentials}
    if isinstance(job, FineTuneJob):
        named |= {"checkpoint": job.spec.checkpoint.credentials}
    return {
        ("spec", part, "credentials", "secretName"): each.secret_name
        for part, each in named.items()
        if each is not None
    }


def _variable(name: str, key: Object) -> Object:
    return {"name": name, "valueFrom": {"secretKeyRef": key}}
