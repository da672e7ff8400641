"""Requests to the API server: plain dictionaries over one pooled session of aiohttp.

Neither the official client nor lightkube nor kr8s is used: each makes classes of every answer, and the operator needs
a dozen requests, which these are. The one that matters most is the watch, of which all three give no missed deletions.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlencode

import aiohttp

from zerotune_operator.api.crd import KINDS
from zerotune_operator.api.jobs import GROUP, VERSION
from zerotune_operator.backends.kubernetes.api_errors import ConflictError, MissingError, api_error
from zerotune_operator.backends.kubernetes.connection import Connection
from zerotune_operator.backends.kubernetes.objects import FIELD_MANAGER, Object
from zerotune_trainer.errors import ConfigurationError, TemporaryError

_WRITE = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Ignore"}
"""That what the operator renders has no unknown fields is for its tests to see: the API server would parse it twice."""
_STRICT = _WRITE | {"fieldValidation": "Strict"}
_APPLY, _MERGE, _JSON = "application/apply-patch+yaml", "application/merge-patch+json", "application/json"
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_PAGE = 500
_TIMEOUT = aiohttp.ClientTimeout(total=30)
_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=150)
"""The API server sends a bookmark every minute."""
_LOST = (TimeoutError, aiohttp.ClientError, OSError)
_PLURALS = {
    ("v1", "ConfigMap"): "configmaps",
    ("v1", "Event"): "events",
    ("v1", "Secret"): "secrets",
    ("v1", "Service"): "services",
    ("batch/v1", "Job"): "jobs",
    ("coordination.k8s.io/v1", "Lease"): "leases",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
    **{(f"{GROUP}/{VERSION}", kind.name): kind.plural for kind in KINDS},
}


class ClusterClient:
    """What the operator asks of the API server, and nothing else.

    Args:
        connection: The API server.
        count: Gets the method and status code of every request; code 0: there was no answer.
    """

    def __init__(self, connection: Connection, count: Callable[[str, int], None] = lambda *_: None) -> None:
        self.connection = connection
        self._count = count

    async def require_kinds(self) -> None:
        """See that the API server knows our kinds.

        Raises:
            ConfigurationError: it does not.
        """
        try:
            await self._request("GET", f"/apis/{GROUP}/{VERSION}", {})
        except MissingError as error:
            raise ConfigurationError(
                f"the API server does not know {GROUP}/{VERSION}",
                "install the CRDs: leave `crds.install` of the chart true, or `kubectl apply -f crds/`",
            ) from error

    async def apply(self, wanted: Object) -> Object:
        """Make an object be as `wanted` (server-side apply); a repeat changes nothing.

        Raises:
            ConfigurationError: the API server rejects it.
            TemporaryError: it does not answer, or a quota or another object is in the way.
        """
        return await self._request("PATCH", path_of(wanted), _WRITE | {"force": "true"}, wanted, _APPLY)

    async def create(self, wanted: Object, *, strict: bool = False) -> Object:
        """Create an object.

        Args:
            wanted: The object.
            strict: Whether to reject a field that its kind does not have: where a user has written a part of it.

        Raises:
            ConfigurationError: the API server rejects it.
            ConflictError: one of its name is there.
        """
        collection = path_of(wanted).rpartition("/")[0]
        return await self._request("POST", collection, _STRICT if strict else _WRITE, wanted, _JSON)

    async def read(self, named: Object) -> Object:
        """The object as it is.

        Raises:
            MissingError: it is not there.
        """
        return await self._request("GET", path_of(named), {})

    async def read_metadata(self, named: Object) -> Object | None:
        """The object without spec, data and status; None where it is not there."""
        try:
            return await self._request("GET", path_of(named), {}, accept=_METADATA)
        except MissingError:
            return None

    async def replace(self, newer: Object) -> Object:
        """Put `newer` in the place of the version that it was made of.

        Raises:
            ConflictError: there is another version by now.
        """
        return await self._request("PUT", path_of(newer), _WRITE, newer, _JSON)

    async def delete(self, unwanted: Object) -> None:
        """Delete an object, and in the background what it owns. One that is deleted, or another of its name, stays."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": unwanted["metadata"]["uid"]}}
        try:
            await self._request("DELETE", path_of(unwanted), {}, body, _JSON)
        except (MissingError, ConflictError):
            return

    async def merge(self, target: Object, patch: Object) -> Object:
        """Merge `patch` into an object.

        Raises:
            MissingError: it does not exist.
        """
        return await self._request("PATCH", path_of(target), _WRITE, patch, _MERGE)

    async def patch_status(self, resource: Object, patch: Object) -> Object:
        """Merge `patch` into the status of a resource.

        Raises:
            ConflictError: it has changed since it was read, or is another one by now.
            MissingError: it does not exist.
        """
        read = {name: resource["metadata"][name] for name in ("uid", "resourceVersion")}
        body = {"metadata": read, "status": patch}
        return await self._request("PATCH", f"{path_of(resource)}/status", _WRITE, body, _MERGE)

    async def time(self) -> datetime:
        """The time at the API server, in whole seconds: whatever it answers has a date.

        Raises:
            TemporaryError: it does not answer.
        """
        answer = await self._send("GET", "/version", {}, None, _JSON, _TIMEOUT)
        answer.release()
        try:
            return parsedate_to_datetime(answer.headers["Date"])
        except (KeyError, ValueError) as error:
            raise TemporaryError("GET /version: the answer of the API server has no date") from error

    async def pages(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Object]:
        """A collection, page by page: `items`, and `metadata` with its `resourceVersion`.

        Raises:
            TemporaryError: the API server does not answer, or forgot meanwhile what it was telling.
        """
        token = ""
        while True:
            page = await self._request("GET", path, {**query, "limit": str(_PAGE), "continue": token})
            yield page
            if not (token := page["metadata"].get("continue", "")):
                return

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Object]:
        """What happens in a collection, until the API server ends it.

        Raises:
            TemporaryError: the connection breaks, is silent for too long, or `resourceVersion` is too old.
        """
        answer = await self._send("GET", path, {**query, "watch": "true"}, None, _JSON, _WATCH_TIMEOUT)
        try:
            if answer.status >= 300:
                raise api_error(answer.status, f"GET {path}", await answer.read())
            async for line in answer.content:
                yield json.loads(line)
        except _LOST as error:
            raise TemporaryError(f"GET {path}: the API server broke off: {error!r}") from error
        finally:
            answer.close()

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None = None,
        content: str = _JSON,
        accept: str = _JSON,
    ) -> Object:
        answer = await self._send(method, path, query, body, content, _TIMEOUT, accept)
        try:
            content_read = await answer.read()
        except _LOST as error:
            raise TemporaryError(f"{method} {path}: the API server broke off: {error!r}") from error
        if answer.status >= 300:
            raise api_error(answer.status, f"{method} {path}", content_read)
        value: Object = json.loads(content_read)
        return value

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        content: str,
        timeout: aiohttp.ClientTimeout,
        accept: str = _JSON,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": accept, "Content-Type": content}
        url = f"{self.connection.server}{path}?{urlencode(query)}"
        data = None if body is None else json.dumps(body)
        try:
            answer = await self.connection.session.request(method, url, headers=headers, data=data, timeout=timeout)
        except _LOST as error:
            self._count(method, 0)
            raise TemporaryError(f"{method} {path}: the API server does not answer: {error!r}") from error
        self._count(method, answer.status)
        return answer


def path_of(named: Object) -> str:
    """The path of a namespaced object in the API."""
    version, metadata = named["apiVersion"], named["metadata"]
    root = "/api/v1" if version == "v1" else f"/apis/{version}"
    return f"{root}/namespaces/{metadata['namespace']}/{_PLURALS[version, named['kind']]}/{metadata['name']}"
