"""Jobs on SageMaker that start from the output of a job on another backend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio.client import Configuration

from tests.unit.sagemaker.account import SHAPE, Account
from tests.unit.sagemaker.jobs import MODELS, ROLE, SETTINGS
from zerotune_operator.api.load import parse_job
from zerotune_operator.api.status import JobStatus, OutputSummary
from zerotune_operator.backends.kubernetes.cache import Cache, Key
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.connection import Connection
from zerotune_operator.backends.kubernetes.events import WarningEvents
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.launchers import Launchers
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.sagemaker.on_cluster import backend_on_cluster
from zerotune_operator.cli.app import build
from zerotune_trainer.errors import ConfigurationError

SAGEMAKER = {"sagemaker": {"instanceType": "ml.m5.xlarge", "roleArn": ROLE}}
"""Backend of the job that starts from another one."""
NO_CHANNEL = "the container has files of channels alone, at file:///opt/ml/input/data/CHANNEL"


def _manifest(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "zerotune.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def writer(kind: str, **spec: Any) -> dict[str, Any]:
    """A job on this machine, unless the spec says otherwise."""
    records = {"uris": ["s3://ddd/d.jsonl"]}
    data = {"data": records} if kind == "InferenceJob" else {"method": "sft", "data": {"train": records}}
    return _manifest(kind, "c1", **({"model": {"uri": "s3://mmm/m"}, "backend": {"local": {}}} | data | spec))


def model_reader() -> dict[str, Any]:
    model, output = {"fromFineTuneJob": "c1"}, {"uri": "s3://rrr/i1"}
    return _manifest("InferenceJob", "i1", model=model, data={"uris": ["s3://ddd/q"]}, output=output, backend=SAGEMAKER)


def data_reader() -> dict[str, Any]:
    data = {"train": {"uris": ["s3://ddd/q"]}, "validation": {"fromInferenceJob": "c1"}}
    model, output = {"uri": "s3://mmm/m"}, {"uri": "s3://rrr/i1"}
    return _manifest("FineTuneJob", "i1", method="sft", model=model, data=data, output=output, backend=SAGEMAKER)


READERS = {
    "FineTuneJob": (model_reader, "model.fromFineTuneJob"),
    "InferenceJob": (data_reader, "data.validation.fromInferenceJob"),
}
"""A job that starts from one of a kind, and the field that names it there."""


def keep(home: Home, kind: str, output: str) -> None:
    """A job of a home that has succeeded."""
    folder = home.create(kind, "c1")
    folder.write_job(parse_job(writer(kind)))
    folder.write_status(JobStatus(phase="Succeeded", output=OutputSummary(uri=output, files=1, bytes=1)))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "home"))
    return Home.of_environment()


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command says of a file of jobs that it rejects."""

    def run(command: str, *jobs: dict[str, Any]) -> str:
        file = tmp_path / "jobs.yaml"
        file.write_text(yaml.safe_dump_all(jobs))
        try:
            code = build().main([command, str(file)], prog_name="zerotune", standalone_mode=False)
        except ConfigurationError as error:
            return str(error)
        assert code == ConfigurationError.exit_code
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize("command", ["validate", "plan", "run"])
@pytest.mark.parametrize("kind", READERS)
def test_an_output_on_this_machine_is_rejected_before_any_job_starts(
    home: Home, refused: Callable[..., str], command: str, kind: str
) -> None:
    reader, field = READERS[kind]
    said = refused(command, writer(kind), reader())
    output = home.job(kind, "c1").output
    assert f"spec.{field} is 'c1', a {kind} that writes to 'file://{output}': {NO_CHANNEL}" in said
    assert "give that job an output.uri on s3://" in said
    assert home.jobs() == []


@pytest.mark.parametrize("command", ["validate", "plan"])
@pytest.mark.parametrize("kind", READERS)
@pytest.mark.usefixtures("home")
def test_an_output_on_a_volume_of_a_cluster_is_rejected(refused: Callable[..., str], command: str, kind: str) -> None:
    reader, field = READERS[kind]
    said = refused(command, writer(kind, backend={"kubernetes": {}}, output={"uri": "pvc://claim/c1"}), reader())
    assert f"spec.{field} is 'c1', a {kind} that writes to 'pvc://claim/c1': SageMaker has no such volume" in said


@pytest.mark.usefixtures("home")
def test_a_chain_over_s3_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(yaml.safe_dump_all([writer("FineTuneJob", output={"uri": "s3://rrr/c1"}), model_reader()]))
    assert not build().main(["validate", str(file)], prog_name="zerotune", standalone_mode=False)


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("kind", READERS)
def test_an_output_that_a_former_run_left_on_this_machine_is_rejected(
    account: Account, home: Home, refused: Callable[..., str], kind: str, command: str
) -> None:
    reader, field = READERS[kind]
    keep(home, kind, "file:///data/c1")
    said = refused(command, reader())
    assert f"spec.{field} is 'c1', a {kind} that writes to 'file:///data/c1': {NO_CHANNEL}" in said
    assert account.stand_in.created == []


@pytest.mark.parametrize("kind", READERS)
def test_the_plan_finds_the_output_of_a_former_run(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    reader, field = READERS[kind]
    keep(home, kind, "s3://rrr/c1")
    file, config = tmp_path / "job.yaml", str(MODELS / "tiny-llama.json")
    file.write_text(yaml.safe_dump(reader()))
    arguments = ["plan", str(file), "--model-config", config, "-o", "yaml"]
    assert not build().main(arguments, prog_name="zerotune", standalone_mode=False)
    config = json.loads(yaml.safe_load(capsys.readouterr().out)["artifacts"]["config.json"])
    assert config["origins"] == [{"field": field, "kind": kind, "name": "c1", "uri": "s3://rrr/c1"}]


@pytest.mark.parametrize("kind", READERS)
def test_an_origin_that_is_nowhere_is_named_with_the_home(home: Home, refused: Callable[..., str], kind: str) -> None:
    reader, field = READERS[kind]
    assert f"{field}: 'c1' is no job of this file, and no {kind} in {home.path}" in refused("plan", reader())


@pytest.mark.parametrize("kind", READERS)
def test_the_operator_rejects_an_output_on_a_volume_claim(account: Account, kind: str) -> None:
    reader, field = READERS[kind]
    written = OutputSummary(uri="pvc://claim/c1", files=1, bytes=1)
    status = JobStatus(phase="Succeeded", output=written, model=SHAPE, model_uri="s3://mmm/m")
    resource = writer(kind) | {"status": status.model_dump(mode="json", by_alias=True, exclude_none=True)}
    job = parse_job(reader())

    async def find_inputs() -> None:
        cache = Cache()
        cache.upsert_resource(Key(kind, job.metadata.namespace, "c1"), resource)
        connection, launchers = Connection(Configuration(host="http://127.0.0.1:1")), Launchers()
        async with aclosing(connection), AsyncExitStack() as stack:
            stack.push_async_callback(launchers.close)
            client, installation = ClusterClient(connection), Installation("trainer", sagemaker=SETTINGS)
            warnings, now = WarningEvents(client), lambda: datetime.now(UTC)
            cluster = Cluster(cache, client, warnings, launchers, installation, now)
            await backend_on_cluster(job, cluster).find_inputs(JobStatus(model=SHAPE))

    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(find_inputs())
    assert f"spec.{field} is 'c1', a {kind} that writes to 'pvc://claim/c1': SageMaker has no such volume" in str(
        caught.value
    )
    assert account.stand_in.created == []
