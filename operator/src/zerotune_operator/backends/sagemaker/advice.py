"""What to do about credentials, region and clock, for who reads it: at the command line, or on a cluster. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Advice(NamedTuple):
    """Remedies that depend on where zerotune runs."""

    give: str
    """Where there are no credentials."""
    correct: str
    """Where AWS does not know those that there are."""
    renew: str
    """Where they have expired."""
    profile: str
    """Where the environment names a profile that is not there."""
    region: str
    """Where no region is set."""
    clock: str
    """Where AWS finds the clock minutes off."""
    again: str
    """Added where nothing but time mends it."""


_HERE = (
    "they were looked for in the environment (AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE), the profile "
    "(AWS_PROFILE, ~/.aws) and the role of the container or instance"
)
COMMAND_LINE = Advice(
    give="run `aws configure` or `aws sso login`, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: "
    f"{_HERE}",
    correct="correct the access key and the secret key of the AWS credentials, and the session token of temporary "
    f"ones: {_HERE}",
    renew="the credentials have expired: renew them, for example with `aws sso login`",
    profile="set AWS_PROFILE to one that `aws configure list-profiles` lists, or unset it",
    region="set backend.sagemaker.region, or AWS_REGION, and check the values of backend.sagemaker",
    clock="set the clock of this machine, which AWS finds minutes off, for example by NTP",
    again="",  # Whatever asks again says so itself.
)

_IN_THE_POD = (
    "the operator looks for them in its environment, the role of its ServiceAccount (AWS_WEB_IDENTITY_TOKEN_FILE, "
    "AWS_CONTAINER_CREDENTIALS_FULL_URI) and the role of its node"
)
CLUSTER = Advice(
    give=f"give the operator's ServiceAccount a role, by IRSA or EKS Pod Identity: {_IN_THE_POD}",
    correct="correct the access key and the secret key of the operator's AWS credentials, and the session token of "
    f"temporary ones: {_IN_THE_POD}",
    renew="the operator's credentials have expired: a role of its ServiceAccount, by IRSA or EKS Pod Identity, is "
    "renewed by itself",
    profile="take AWS_PROFILE out of the operator's environment, and give its ServiceAccount a role",
    region="set backend.sagemaker.region, or sagemaker.region in the chart's values, and check the values of "
    "backend.sagemaker",
    clock="set the clock of the operator's node, which AWS finds minutes off, for example by NTP; it is tried again",
    again="; it is tried again, ever more seldom",
)
