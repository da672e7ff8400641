"""The S3 client of a process, over boto3."""

from __future__ import annotations

import functools
import os
import threading
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from zerotune_trainer.errors import ConfigurationError

TRIES = 3


_client_lock = threading.Lock()
"""Threads that ask for the client at once would each make one, of which making is the dear part."""


def client() -> Any:
    """The S3 client of this process, made when it is first asked for; see `_create_client`."""
    with _client_lock:
        return _create_client()


def is_anonymous() -> bool:
    """Whether no keys were found, so that requests are not signed."""
    return client().meta.config.signature_version is UNSIGNED


def forget_client() -> None:
    """Make another client next time: the environment has changed."""
    _create_client.cache_clear()


@functools.cache
def _create_client() -> Any:
    """S3 with keys, region and endpoint as boto3 finds them: the AWS variables, its files, the role of the pod or host.

    Where it finds no keys, requests are not signed, as public buckets take them. The one name that boto3 does not know
    is AWS_REGION, which the SDKs for other languages take.

    Raises:
        ConfigurationError: what the variables say makes no client.
        BotoCoreError: as `s3_errors` explains.
    """
    session = boto3.Session(region_name=os.environ.get("AWS_REGION"))
    config = Config(
        connect_timeout=10,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        max_pool_connections=32,
        signature_version=None if session.get_credentials() else UNSIGNED,
    )
    try:
        return session.client("s3", config=config)
    except ValueError as error:
        raise ConfigurationError(f"S3 cannot be asked: {error}", "check AWS_ENDPOINT_URL and AWS_REGION") from error


def _forget_in_child() -> None:
    """A forked process must not use its parent's connections, nor wait for a thread that it does not have."""
    _client_lock.release()
    forget_client()


os.register_at_fork(before=_client_lock.acquire, after_in_parent=_client_lock.release, after_in_child=_forget_in_child)
