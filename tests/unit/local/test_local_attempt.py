"""Job > layout > plan > what is started; and when it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from tests.unit.local.planning import plan_here
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import Attempt, JobStatus, OutputSummary, RootCause
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import AttemptFolder
from zerotune_operator.backends.local.layout import find_inputs, free_ports, gpus_for, model_uri, place, resolve
from zerotune_operator.backends.local.render import LocalAttempt, NodeProcess, render
from zerotune_operator.backends.local.requirements import require_local
from zerotune_operator.backends.model_shape import model_shape
from zerotune_operator.plan import plan_job
from zerotune_trainer.config import JobIdentity
from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError
from zerotune_trainer.progress import Progress

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_plan_becomes_a_launcher_a_node(home: Home, job: Callable[..., Job]) -> None:
    spec = job(topology={"nodes": 2, "processesPerNode": 2})
    folder = home.job("FineTuneJob", "cwe")
    layout = replace(place(spec, folder, home, [], model_uri(spec, home)), master_port=1234, progress_port=5678)
    identity = JobIdentity(kind="FineTuneJob", name="cwe", uid="u", attempt=3)
    plan = plan_job(spec, model_shape(layout.model_uri), layout, identity)
    there = folder.attempt(3)
    assert render(plan, there, "/bin/zerotune-launch", []) == LocalAttempt(
        number=3,
        folder=there.path,
        files=plan.artifacts(),
        nodes=(_node(there, 0, {}), _node(there, 1, {})),
        progress_port=5678,
    )
    assert plan.artifacts()["hostfile"] == "127.0.0.1 slots=2\n127.0.0.2 slots=2\n"
    shared = render(plan, there, "/bin/zerotune-launch", ["0", "1", "2", "5"])
    assert [node.environment for node in shared.nodes] == [
        {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0,1"},
        {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "2,5"},
    ]


def _node(folder: AttemptFolder, number: int, environment: dict[str, str]) -> NodeProcess:
    host, message = f"127.0.0.{number + 1}", folder.path / f"node-{number}.termination.json"
    command = ("/bin/zerotune-launch", str(folder.path), "--host", host, "--termination-log", str(message))
    return NodeProcess(host, (*command, "--stop-on-eof"), environment, folder.path / f"node-{number}.log", message)


def test_every_attempt_gets_ports_of_its_own_and_the_same_configuration(home: Home, job: Callable[..., Job]) -> None:
    first, second = (plan_here(job(), home.job("FineTuneJob", "cwe"), home, attempt) for attempt in (0, 1))
    assert first.config.digest() == second.config.digest()
    assert (first.config.job.attempt, second.config.job.attempt) == (0, 1)
    assert first.config.launch.cache_dir == str(home.cache)
    assert first.config.output.uri == home.job("FineTuneJob", "cwe").output.as_uri()


def test_a_job_that_has_made_steps_keeps_its_zero_stage(home: Home, job: Callable[..., Job]) -> None:
    """The checkpoint of one stage cannot be loaded at another, however much memory there is by then."""
    folder, pair = home.create("FineTuneJob", "cwe"), job(topology={"nodes": 2})
    first = plan_here(pair, folder, home, 0)
    assert first.candidate is not None and first.candidate.stage == 0
    settled = {"zero_stage": 2, "offload_optimizer": "cpu", "offload_param": "none"}
    earlier = JobStatus(phase="Failed", plan=first.summary().model_copy(update=settled))
    folder.write_status(earlier)
    assert plan_here(pair, folder, home, 1).candidate == first.candidate, "no step was made yet"

    # The newest attempt ended before its first step; the one before it made some.
    attempts = [Attempt(number=0, last_step=5), Attempt(number=1)]
    folder.write_status(earlier.model_copy(update={"attempts": attempts, "progress": Progress(step=0, total=9)}))
    later = plan_here(pair, folder, home, 2)
    assert later.candidate is not None
    assert {name: getattr(later.summary(), name) for name in settled} == settled
    assert later.config.digest() == first.config.digest()


def test_nodes_share_the_memory_of_the_machine_not_what_is_free_now(home: Home, job: Callable[..., Job]) -> None:
    layout = place(job(topology={"nodes": 2}), home.job("FineTuneJob", "cwe"), home, [], "file:///model")
    assert layout.node_bytes == psutil.virtual_memory().total // 2


def test_a_port_in_use_is_not_given_out() -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        ports = free_ports(50)
        assert taken.getsockname()[1] not in ports
    assert len(set(ports)) == 50


def test_more_gpus_than_the_machine_has(
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nvidia_smi = tmp_path / "nvidia-smi"
    nvidia_smi.write_text("#!/bin/sh\nprintf '0, GPU-a, 1024\\n1, GPU-b, 2048\\n'\n")
    nvidia_smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    pair = job(topology={"nodes": 2, "gpusPerNode": 1})
    assert [(gpu.device, gpu.memory_bytes) for gpu in gpus_for(pair)] == [("0", 1 << 30), ("1", 2 << 30)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b,0")
    assert [gpu.device for gpu in gpus_for(pair)] == ["1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(ConfigurationError) as rejected:
        gpus_for(pair)
    assert rejected.value.message == "topology asks for 2 GPUs (replicas x nodes x gpusPerNode), this machine has 1"
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="this machine has 0"):
        gpus_for(pair)
    assert gpus_for(job()) == []


def test_uris_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve("file://data/a.jsonl") == f"file://{tmp_path}/data/a.jsonl"
    assert resolve("file:///data/a.jsonl") == "file:///data/a.jsonl"
    assert resolve("s3://bucket/key") == "s3://bucket/key"
    with pytest.raises(ConfigurationError, match="volume claim"):
        resolve("pvc://claim/path")


def test_a_job_that_is_not_there_cannot_be_continued(home: Home, inference: Callable[[str], Job]) -> None:
    with pytest.raises(InputMissingError) as missing:
        model_uri(inference("base"), home)
    assert missing.value.message == (
        f"model.fromFineTuneJob: 'base' is no FineTuneJob in {home.path} (there are: none)"
    )


def test_the_output_of_a_job_is_taken_once_it_has_succeeded(
    home: Home, job: Callable[..., Job], inference: Callable[[str], Job]
) -> None:
    folder = home.create("FineTuneJob", "base")
    folder.write_job(job("base"))
    cause = RootCause(failure_class="Data", message="a.jsonl:3: not JSON")
    folder.write_status(JobStatus(phase="Failed", root_cause=cause))
    with pytest.raises(InputMissingError) as failed:
        model_uri(inference("base"), home)
    assert failed.value.message == (
        "model.fromFineTuneJob: 'base' has not succeeded, its phase is Failed: a.jsonl:3: not JSON"
    )
    folder.write_status(JobStatus(phase="Suspended"))
    with pytest.raises(InputMissingError, match="its phase is Suspended"):
        model_uri(inference("base"), home)
    with folder.locked(), pytest.raises(TemporaryError, match="'base' is still running"):
        model_uri(inference("base"), home)
    folder.write_status(JobStatus(phase="Succeeded", output=OutputSummary(uri="file:///out", files=1, bytes=1)))
    assert model_uri(inference("base"), home) == "file:///out"


def test_a_job_that_wrote_no_model_is_named(
    home: Home, job: Callable[..., Job], inference: Callable[[str], Job], tmp_path: Path
) -> None:
    folder, out = home.create("FineTuneJob", "base"), tmp_path / "out"
    out.mkdir()
    folder.write_job(job("base", method="script", script={"file": "file:///train.py"}))
    output = OutputSummary(uri=out.as_uri(), files=1, bytes=1)
    folder.write_status(JobStatus(phase="Succeeded", output=output))
    with pytest.raises(InputMissingError) as caught:
        find_inputs(inference("base"), home)
    assert caught.value.message == (
        f"FineTuneJob base wrote no model (no config.json in {out.as_uri()}): {out}/config.json is not there"
    )
    assert "model.fromFineTuneJob" in caught.value.hint


IN_A_BUCKET = {
    "model": {"uri": "s3://bucket/model"},
    "data": {"train": {"uris": ["s3://bucket/a.jsonl"]}},
    "output": {"uri": "s3://bucket/out"},
}


def test_one_machine_supports_nodes_and_memory(job: Callable[..., Job]) -> None:
    require_local(job(backend={"local": {}}, topology={"nodes": 2, "memory": "1Gi"}))
