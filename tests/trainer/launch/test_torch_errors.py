"""Errors that torch really raises, as ours."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest

from zerotune_trainer.errors import ConfigurationError, OutOfMemoryError, PeerLostError, TemporaryError
from zerotune_trainer.failures import classify

pytestmark = pytest.mark.slow


def test_host_memory() -> None:
    import torch

    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.int8)
    assert isinstance(classify(raised.value), OutOfMemoryError)


def test_device_memory() -> None:
    import torch

    error = classify(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore."))
    assert isinstance(error, OutOfMemoryError)
    assert error.message == "CUDA out of memory. Tried to allocate 2.00 GiB."


def test_a_port_in_use() -> None:
    from torch.distributed import DistNetworkError, TCPStore

    with socket.create_server(("", 0)) as server, pytest.raises(DistNetworkError) as raised:
        TCPStore("127.0.0.1", server.getsockname()[1], 1, is_master=True)
    assert isinstance(classify(raised.value), TemporaryError)


def test_a_peer_that_went_away() -> None:
    from torch.distributed import DistNetworkError, TCPStore

    store = TCPStore("127.0.0.1", 0, 1, is_master=True, timeout=timedelta(seconds=5))
    client = TCPStore("127.0.0.1", store.port, 1, is_master=False, timeout=timedelta(seconds=5))
    del store
    with pytest.raises(DistNetworkError) as raised:
        client.set("key", "value")
        client.get("key")
    assert isinstance(classify(raised.value), PeerLostError)


def test_an_interface_that_is_missing_is_named_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from zerotune_trainer.distributed import check_interfaces

    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    check_interfaces()
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo,rdma7")
    with pytest.raises(ConfigurationError, match=r"names the network interface 'rdma7', and .* has .*lo"):
        check_interfaces()
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    check_interfaces()
