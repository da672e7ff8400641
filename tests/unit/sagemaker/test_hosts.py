"""The hosts of the stand-in run the code of who started it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from zerotune_devtools.sagemaker.hosts import Host


def test_a_host_imports_modules_from_where_this_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/checkout/trainer/src")
    monkeypatch.setenv("MASTER_ADDR", "of this process alone")
    host = Host(tmp_path / "ml", "127.0.0.2", "algo-1", ("sh", "-c", "echo ${PYTHONPATH} ${MASTER_ADDR}"))
    host.root.mkdir()
    host.start({"InputDataConfig": [{"ChannelName": "zerotune"}]})
    while host.exit_code is None:
        time.sleep(0.01)
    assert host.log.read_text() == "/checkout/trainer/src\n"
