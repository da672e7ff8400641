"""The API server of the tests' cluster, asked directly: what a test does many times a second."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import Configuration

Object = dict[str, Any]
T = TypeVar("T")


class RejectedError(LookupError):
    """The API server's answer is none of success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ApiServer:
    """A session with the API server.

    Args:
        kubeconfig: Of the cluster.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    async def __aenter__(self) -> ApiServer:
        settings = Configuration()
        await config.load_kube_config(str(self._kubeconfig), client_configuration=settings)
        context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file)
        self.url = settings.host
        credentials: Any = await settings.auth_settings()
        headers = {auth["key"]: auth["value"] for auth in credentials.values()}
        headers |= {"Accept-Encoding": "identity"}
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, connect=30)
        # Who asked for compressed content, through a proxy, gets it as it came.
        self.session = aiohttp.ClientSession(
            connector=connector, headers=headers, timeout=timeout, auto_decompress=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def get(self, path: str) -> Object:
        """The object at a path."""
        return await self.ask("GET", path)

    async def items(self, path: str) -> list[Object]:
        """The objects of a list."""
        found: list[Object] = (await self.get(path))["items"]
        return found

    async def create(self, path: str, wanted: Object) -> Object:
        """Create an object in the collection at a path; returns what became of it."""
        return await self.ask("POST", path, wanted)

    async def delete(self, path: str) -> Object:
        """Delete an object, or a whole collection."""
        return await self.ask("DELETE", path)

    async def patch(self, path: str, change: Object) -> Object:
        """Merge a change into an object."""
        return await self.ask("PATCH", path, change, "application/merge-patch+json")

    async def ask(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Object:
        """Send one request; returns the answer, under the key `text` where it is no JSON.

        Raises:
            RejectedError: the answer is none of success.
        """
        headers = {"Content-Type": content_type}
        async with self.session.request(method, self.url + path, json=body, headers=headers) as answer:
            content = await answer.read()
            if answer.status >= 300:
                raise RejectedError(answer.status, f"{method} {path}: {answer.status} {content.decode()}")
            try:
                found: Object = json.loads(content)
            except ValueError:
                return {"text": content.decode()}  # A pod's own answer, through the API server.
            return found


async def until(poll: Callable[[], Awaitable[T | None]], what: str, seconds: float = 120) -> T:
    """What `poll` finds, once it finds something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = await poll()
        if found:
            return found
        await asyncio.sleep(0.3)
    raise TimeoutError(f"{what}: not within {seconds:.0f}s")
