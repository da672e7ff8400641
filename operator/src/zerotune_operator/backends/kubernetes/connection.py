"""How this process reaches the API server: one login and one pool of connections, for kopf's requests and for our own.

Of the official client only reading the credentials is used: its loaders know service accounts whose tokens are renewed,
client certificates and the commands of a kubeconfig (`exec`), of which kopf 1.45 knows the last not at all. Its
generated API classes are not used: they convert every answer into objects and back, and are half of the image.
"""

from __future__ import annotations

import ssl
from functools import cached_property
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import Configuration

from zerotune_trainer.errors import ConfigurationError

_LONGEST_LINE = 2 << 20
"""Bytes of an event of a watch that are buffered: an object of etcd has at most 1.5 MiB."""
_IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class Connection:
    """The API server of a cluster, and who this process is there.

    Args:
        settings: Address and credentials.
    """

    def __init__(self, settings: Configuration) -> None:
        self._settings = settings
        self.server: str = settings.host
        """Its URL, without a slash at its end."""

    @cached_property
    def session(self) -> aiohttp.ClientSession:
        """The session of our own requests."""
        return self.open_session()

    def open_session(self) -> aiohttp.ClientSession:
        """A session for whoever closes it; the connections stay in the pool."""
        return aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            middlewares=(self._authorize,),
            proxy=self._settings.proxy,
            read_bufsize=_LONGEST_LINE,
        )

    async def aclose(self) -> None:
        """Close the session of our own requests, and all connections."""
        if "session" in self.__dict__:
            await self.session.close()
        if "_connector" in self.__dict__:
            await self._connector.close()

    @cached_property
    def _connector(self) -> aiohttp.TCPConnector:
        # Without a limit: every namespace that is watched holds connections, and reconciles have a limit of their own.
        return aiohttp.TCPConnector(limit=0, ssl=_tls(self._settings))

    async def _authorize(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send the newest token along: that of a pod is renewed every hour."""
        credentials: Any = await self._settings.auth_settings()
        request.headers.update({each["key"]: each["value"] for each in credentials.values()})
        return await handler(request)


async def connect(kubeconfig: Path | None = None) -> Connection:
    """The cluster of a kubeconfig; without one that which this process runs in, else that of `KUBECONFIG`.

    Raises:
        ConfigurationError: there is none.
    """
    settings = Configuration()
    try:
        if kubeconfig is None and _IN_CLUSTER.is_file():
            config.load_incluster_config(client_configuration=settings)
        else:
            file = None if kubeconfig is None else str(kubeconfig)
            await config.load_kube_config(file, client_configuration=settings)
    except config.ConfigException as error:
        raise ConfigurationError(
            f"no cluster to talk to: {error}", "set KUBECONFIG, or run in a pod with a service account"
        ) from error
    return Connection(settings)


def _tls(settings: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ssl_ca_cert, cadata=settings.ca_cert_data)
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    if not settings.verify_ssl:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
