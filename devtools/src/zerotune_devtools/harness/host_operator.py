"""The operator as a process on this machine, which a test may kill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import aiohttp

from zerotune_devtools import chart, cluster
from zerotune_devtools.checkout import CRDS
from zerotune_devtools.harness.deadly_proxy import free_port
from zerotune_devtools.harness.forked_operator import fork_operator
from zerotune_operator.backends.kubernetes.pod_policy import ANY_NAMES, PodPolicy


@dataclass(frozen=True)
class HostOperator:
    """An operator that runs."""

    process: ForkServerProcess
    port: int

    @classmethod
    def start(
        cls,
        folder: Path,
        namespace: str,
        kubeconfig: Path,
        *,
        lease: str = "zerotune-operator",
        hub: str | None = None,
        progress_interval: float = 1,
        others: Sequence[str] = (),
        policy: PodPolicy = ANY_NAMES,
    ) -> HostOperator:
        """Start one for a namespace, where its Lease is, too. All that start there write to `folder/NAMESPACE.log`.

        Args:
            folder: For its files.
            namespace: The namespace.
            kubeconfig: Of the cluster.
            lease: Name of its Lease.
            hub: Address of a Hub; None is the real one.
            progress_interval: Seconds between two observations of a job that runs.
            others: Namespaces that it works in, too.
            policy: What the pods of jobs may be.
        """
        port = free_port()
        arguments = {
            "--trainer-image": "zerotune.dev/trainer:0.1.0",
            "--operator-namespace": namespace,
            "--lease": lease,
            "--progress-interval": str(progress_interval),
            "--metrics-port": str(port),
            "--pod-policy": policy.model_dump_json(by_alias=True),
        }
        pairs = [*arguments.items(), *(("--namespace", name) for name in (namespace, *others))]
        environment = {"KUBECONFIG": str(kubeconfig), "HF_HOME": str(folder / "no-cache")}
        environment |= {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0"} if hub else {}
        words = [word for pair in pairs for word in pair]
        return cls(fork_operator(words, environment, folder / f"{namespace}.log"), port)

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    async def answers(self, path: str) -> str | None:
        """What it says at `path`; None where it says nothing, or not yes."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
            ):
                return await answer.text() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    async def figure(self, name: str) -> float:
        """The sum of a metric over its labels; 0 where there is none."""
        lines = (await self.answers("/metrics") or "").splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))

    def kill(self) -> None:
        """SIGKILL: it gets no time for a last word."""
        self.process.kill()

    async def stop(self) -> int | None:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return await self.exit_code(30)

    async def exit_code(self, seconds: float) -> int | None:
        """Wait for it to end; its exit code, or None where it still runs."""
        await asyncio.to_thread(self.process.join, seconds)
        return self.process.exitcode

    def end(self) -> None:
        """Be sure that it has ended."""
        self.process.kill()
        self.process.join()


def prepare_cluster() -> Path:
    """Give the cluster the images, and the kinds, which stay; its kubeconfig."""
    kubeconfig = cluster.up_with_images()
    files = [f"--filename={path}" for path in sorted(CRDS.glob("zerotune.dev_*.yaml"))]
    ended = chart.kubectl("apply", "--server-side", "--force-conflicts", *files)
    assert ended.returncode == 0, ended.stderr
    return kubeconfig


def kubeconfig_of(server: str, path: Path) -> Path:
    """Write a kubeconfig of a server that asks for no certificate."""
    named = {
        "clusters": [{"name": "proxy", "cluster": {"server": server}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}],
    }
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "proxy", **named}))
    return path
