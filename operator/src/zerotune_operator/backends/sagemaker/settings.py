"""What the operator was installed with for SageMaker: see `sagemaker` in the chart's values.

The jobs run with the operator's rights at AWS, not with those of who made the FineTuneJob: so the backend is off until
it is switched on, and a job may name no role but those that are listed here.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import ClassVar

from pydantic import ValidationError

from zerotune_trainer.config.base import Settings
from zerotune_trainer.errors import ConfigurationError

Pattern = str
"""A name, in which `*` stands for any text."""


class SageMakerSettings(Settings):
    """What the operator was installed with for SageMaker."""

    model_config = Settings.model_config | {"frozen": True}

    or_default: ClassVar[str] = "; `sagemaker.{}` of the chart is that of jobs that name none"
    """What to say of a value that a job may have from elsewhere."""
    enabled: bool = False
    """Whether jobs may run there."""
    namespaces: tuple[Pattern, ...] = ()
    """Namespaces whose jobs may run there."""
    roles: tuple[Pattern, ...] = ()
    """Execution roles that jobs may name besides the default one."""
    role_arn: str | None = None
    """Execution role of a job that names none."""
    image: str | None = None
    """Trainer image in ECR of a job that names none."""
    region: str | None = None
    """Region of a job that names none. Default: that of the operator's environment."""

    def require_namespace(self, namespace: str) -> None:
        """See that jobs of a namespace may run on SageMaker.

        Raises:
            ConfigurationError: they may not.
        """
        if not self.enabled:
            raise ConfigurationError(
                "backend.sagemaker is switched off in this installation of zerotune",
                "set `sagemaker.enabled` of the chart to true, or use backend.kubernetes",
            )
        if not _allows(self.namespaces, namespace):
            raise ConfigurationError(
                f"jobs of the namespace {namespace!r} may not run on SageMaker",
                "add the namespace to `sagemaker.namespaces` of the chart",
            )

    def role(self, named: str | None) -> str:
        """The execution role of a job, by the one that it names.

        Raises:
            ConfigurationError: it may not have that role, or names none where there is no default.
        """
        if named is None and self.role_arn is None:
            raise ConfigurationError(
                "no execution role: backend.sagemaker.roleArn is not set",
                "set it to the role that reads the data and writes the output, arn:aws:iam::ACCOUNT:role/ROLE"
                f"{self.or_default.format('roleArn')}",
            )
        if named is not None and named != self.role_arn and not _allows(self.roles, named):
            raise ConfigurationError(
                f"backend.sagemaker.roleArn: jobs may not run with the role {named}",
                "add it to `sagemaker.roles` of the chart, and let the operator's own role pass it (iam:PassRole)",
            )
        return named or str(self.role_arn)

    def image_of(self, named: str | None) -> str:
        """The image of a job, by the one that it names.

        Raises:
            ConfigurationError: it names none, and there is no default.
        """
        image = named or self.image
        if image is None:
            raise ConfigurationError(
                "no trainer image: backend.sagemaker.image is not set",
                "set it to the trainer image in ECR, ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG"
                f"{self.or_default.format('image')}",
            )
        return image


class OwnAccount(SageMakerSettings):
    """Of the command line: who calls it may do what AWS lets them do, and there is no chart."""

    enabled: bool = True
    namespaces: tuple[Pattern, ...] = ("*",)
    roles: tuple[Pattern, ...] = ("*",)
    or_default: ClassVar[str] = ""


UNKNOWN_SETTINGS = SageMakerSettings(
    enabled=True,
    namespaces=("*",),
    roles=("*",),
    role_arn="(backend.sagemaker.roleArn, which is not set)",
    image="(backend.sagemaker.image, which is not set)",
)
"""For requests that are made to see whether they can be made."""


def read_settings(text: str) -> SageMakerSettings:
    """The settings of a JSON text, as the chart gives it to the operator.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        return SageMakerSettings.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigurationError(
            f"the settings for SageMaker are not valid: {place}: {first['msg']}",
            "see `sagemaker` in the chart's values.yaml",
        ) from error


def _allows(patterns: tuple[Pattern, ...], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
