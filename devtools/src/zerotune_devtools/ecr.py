"""Makes the repositories in ECR that `make push REGISTRY=... ECR=1` pushes to, where they are missing: ECR makes none
by itself. It uses the credentials that boto3 finds; who pushes has to log in to the registry besides.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from zerotune_devtools.images.push import make_pusher, targets

_REGISTRY = re.compile(r"(\d{12})\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?(?:/.*)?")
_FORM = "ACCOUNT.dkr.ecr.REGION.amazonaws.com"


class Registry(NamedTuple):
    """A registry of ECR."""

    account: str
    region: str

    @classmethod
    def of(cls, name: str) -> Registry:
        """By the name of a registry, with or without a path.

        Raises:
            ValueError: it is none of ECR, or in a region that ECR is not in.
        """
        found = _REGISTRY.fullmatch(name)
        if found is None:
            raise ValueError(
                f"REGISTRY is {name!r}, and one of ECR is {_FORM}, with or without a path: correct it, or leave ECR out"
            )
        session = boto3.Session(region_name=found[2])
        partitions = session.get_available_partitions()
        regions = [each for part in partitions for each in session.get_available_regions("ecr", partition_name=part)]
        if found[2] not in regions:
            raise ValueError(f"REGISTRY names the region {found[2]!r}, and ECR is in {', '.join(sorted(regions))}")
        return cls(found[1], found[2])


def ensure_repositories(registry: Registry, repositories: Iterable[str]) -> list[str]:
    """Make those that are missing; answers which.

    Raises:
        ValueError: ECR rejects it, or does not answer.
    """
    try:
        client = boto3.Session(region_name=registry.region).client("ecr")
        return [name for name in repositories if _make(client, registry, name)]
    except (BotoCoreError, ClientError) as error:
        raise ValueError(
            f"{error}\n  hint: AWS credentials are looked for as boto3 does (AWS_ACCESS_KEY_ID, AWS_PROFILE, a role); "
            f"they need ecr:DescribeRepositories and ecr:CreateRepository in account {registry.account}, region "
            f"{registry.region}"
        ) from error


def repositories_of(images: Iterable[str]) -> list[str]:
    """The repositories of images: what stands between registry and tag."""
    return sorted({image.partition("/")[2].rpartition(":")[0] for image in images})


def main() -> None:
    """Make the repositories of all images that `make images` built; prints those that were missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("registry", metavar="REGISTRY", help=f"{_FORM}, with or without a path")
    name = parser.parse_args().registry
    try:
        registry = Registry.of(name)
        for made in ensure_repositories(registry, repositories_of(targets(name, make_pusher().references()).values())):
            sys.stdout.write(f"made the repository {made}\n")
    except ValueError as error:
        sys.exit(f"error: {error}")


def _make(client: Any, registry: Registry, name: str) -> bool:
    """Whether it was missing, and is made."""
    try:
        client.describe_repositories(registryId=registry.account, repositoryNames=[name])
        return False
    except client.exceptions.RepositoryNotFoundException:
        pass
    try:
        client.create_repository(registryId=registry.account, repositoryName=name)
    except client.exceptions.RepositoryAlreadyExistsException:  # Somebody was faster.
        return False
    return True


if __name__ == "__main__":
    main()
