"""The operator as benchmarks run it: the whole one, in a process of this machine, and what that process takes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from zerotune_devtools.benchmarks.operator_jobs import PATHS
from zerotune_devtools.harness.api_server import ApiServer, until
from zerotune_devtools.harness.deadly_proxy import DeadlyProxy, Never
from zerotune_devtools.harness.host_operator import HostOperator


@asynccontextmanager
async def running_operator(cluster: ApiServer, namespace: str, kubeconfig: Path) -> AsyncIterator[HostOperator]:
    """An operator that works in the namespace. The Hub is the proxy's: nothing else goes through it."""
    with TemporaryDirectory() as folder:
        async with DeadlyProxy(cluster, lambda: None, Never()) as hub:
            started = HostOperator.start(
                Path(folder), namespace, kubeconfig, hub=f"{hub.url}/hub", progress_interval=10
            )
            try:
                await until(lambda: started.answers("/readyz"), "the operator is ready")
                await until(lambda: _leads(started), "the operator leads")
                await until(lambda: started.answers("/readyz"), "the operator knows what is there")
                yield started
            finally:
                started.end()


async def _leads(operator: HostOperator) -> bool:
    return await operator.figure("zerotune_leader") == 1


async def requests(operator: HostOperator) -> float:
    """Requests to the API server so far."""
    return await operator.figure("zerotune_api_requests_total")


async def all_run(cluster: ApiServer, namespace: str) -> bool:
    """Whether every FineTuneJob of the namespace is Running."""
    found = await cluster.items(PATHS["FineTuneJob"].format(namespace))
    return all(job.get("status", {}).get("phase") == "Running" for job in found)


def cpu_seconds(operator: HostOperator) -> float:
    """CPU time so far, in seconds."""
    columns = Path(f"/proc/{operator.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(columns[11]) + int(columns[12])) / os.sysconf("SC_CLK_TCK")


def peak_mebibytes(operator: HostOperator) -> float:
    """Highest resident memory so far (VmHWM), in MiB."""
    lines = Path(f"/proc/{operator.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
