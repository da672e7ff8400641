"""Which of its namespaces the operator can work in: one that was deleted took the operator's Role along."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from zerotune_operator.backends.kubernetes.api_errors import ForbiddenError
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.objects import JOB_NAME_LABEL
from zerotune_trainer.errors import TemporaryError

_PATIENCE_SECONDS = 10
"""The Roles of a release may come after its pods."""
_RETRY_SECONDS = 2
_NONE = {"labelSelector": f"{JOB_NAME_LABEL},!{JOB_NAME_LABEL}"}
"""Selects nothing: whether the list is allowed is all there is to know."""
_LOST = "%s is left out: the operator may not list Jobs there. Once it has its Role again, restart the operator"

_logger = logging.getLogger(__name__)


async def open_namespaces(client: ClusterClient, namespaces: Collection[str]) -> list[str]:
    """Those that the operator may list, in order; one that it may not does not keep it from the others.

    Raises:
        TemporaryError: it may list none.
    """
    allowed = await asyncio.gather(*(_is_open(client, name) for name in namespaces))
    found = [name for name, is_open in zip(namespaces, allowed, strict=True) if is_open]
    for name in set(namespaces) - set(found):
        _logger.error(_LOST, name)
    if not found:
        raise TemporaryError(
            f"the operator may not list Jobs in any of {', '.join(namespaces)}",
            "see that they are there, and that the chart's roles are bound to the operator",
        )
    return found


async def _is_open(client: ClusterClient, namespace: str) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE_SECONDS
    while True:
        try:
            async for _ in client.pages(f"/apis/batch/v1/namespaces/{namespace}/jobs", _NONE):
                return True
        except ForbiddenError:
            if loop.time() >= deadline:
                return False
        except TemporaryError as error:
            _logger.warning("%s", error.message)
        await asyncio.sleep(_RETRY_SECONDS)
