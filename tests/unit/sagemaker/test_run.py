"""`zerotune run` of a job on SageMaker, and Ctrl-C in a command that waits for AWS."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.unit.sagemaker.in_process import LIFE, Aws, serve_commands
from tests.unit.sagemaker.jobs import ROLE, sagemaker_job
from zerotune_operator.api.status import Attempt, JobStatus, RootCause
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.sagemaker import standalone
from zerotune_operator.backends.sagemaker.follower import Follower
from zerotune_operator.cli.live import PlainView
from zerotune_operator.cli.run_sagemaker import run_on_sagemaker
from zerotune_trainer.config import JobIdentity
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.manifest import OWNER_NAME

JOB = sagemaker_job(roleArn=ROLE)
PATIENCE_SECONDS = 120


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """An account whose training jobs fail."""
    made = Aws(tmp_path, (*LIFE[:3], "Failed"))
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "home"))
    serve_commands(made, monkeypatch)
    yield made
    made.close()


def test_an_output_that_another_job_owns_is_rejected_before_a_training_job_is_created(aws: Aws) -> None:
    owner = JobIdentity(kind="FineTuneJob", name="tune", uid="of-another-home", attempt=0)
    aws.objects[f"results/r/{OWNER_NAME}"] = owner.model_dump_json(by_alias=True).encode()
    home = Home.of_environment()
    with pytest.raises(ConfigurationError, match="holds the output of another FineTuneJob of this name") as caught:
        run_on_sagemaker(JOB, home.create(JOB.kind, JOB.metadata.name), home)
    assert caught.value.hint == "name another output.uri, or empty that folder if nobody needs what it holds"
    assert aws.service.created == []


class View(PlainView):
    """Ends the follower a while after the first failure that it shows."""

    def __init__(self) -> None:
        super().__init__("tune")
        self.failures: list[str] = []
        self.follower: Follower | None = None

    def restarting(self, cause: RootCause, seconds: float) -> None:
        assert self.follower is not None
        self.failures.append(cause.failure_class)
        asyncio.get_running_loop().call_later(0.5, self.follower.leave)


def test_a_failure_is_shown_once_however_often_the_next_attempt_is_waited_for(aws: Aws) -> None:
    home, view = Home.of_environment(), View()
    folder = home.create(JOB.kind, JOB.metadata.name)
    backend = standalone.standalone_backend(JOB, home)
    view.follower = Follower(JOB, folder, backend, view)
    status = asyncio.run(view.follower.follow(JobStatus(phase="Planned")))
    assert status.phase == "Restarting"
    assert len(view.failures) == 1
    assert len(aws.service.created) == 1


@contextmanager
def asking(tmp_path: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """`zerotune`, which asks AWS about a job that runs and gets no answer, and what it has said so far."""
    home = Home(tmp_path / "home")
    folder = home.create(JOB.kind, JOB.metadata.name)
    stored = JOB.metadata.model_dump(by_alias=True, exclude_unset=True) | {"creationTimestamp": "2026-01-01T00:00:00Z"}
    folder.write_job(JOB.model_copy(update={"metadata": type(JOB.metadata).model_validate(stored)}))
    folder.write_status(JobStatus(phase="Running", attempts=[Attempt(number=0)]))
    with socket.create_server(("127.0.0.1", 0)) as silent, (tmp_path / "said").open("w+") as said:
        variables = {
            "ZEROTUNE_HOME": str(home.path),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test"),
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        command = [sys.executable, "-c", "from zerotune_operator.cli import main; main()", *arguments]
        process = subprocess.Popen(command, env=os.environ | variables, stdout=said, stderr=said)
        silent.settimeout(PATIENCE_SECONDS)
        connection, _ = silent.accept()  # AWS is asked, and does not answer.
        with connection:
            yield process, (tmp_path / "said").read_text
            assert process.wait(PATIENCE_SECONDS) == -signal.SIGINT
        assert "Traceback" not in (tmp_path / "said").read_text()


@pytest.mark.slow
def test_a_second_ctrl_c_ends_the_command_without_a_traceback(tmp_path: Path) -> None:
    with asking(tmp_path, "status", "tune") as (process, _):
        process.send_signal(signal.SIGINT)
        assert _awaits_default(process), "the interpreter waits for AWS, and a Ctrl-C would interrupt that"
        process.send_signal(signal.SIGINT)


@pytest.mark.slow
def test_ctrl_c_while_aws_is_asked_is_answered_at_once(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(JOB.model_dump(mode="json", by_alias=True, exclude_unset=True)))
    with asking(tmp_path, "run", str(file)) as (process, said):
        process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "tune: ends as soon as AWS answers, and the job goes on there" not in said():
            assert process.poll() is None and time.monotonic() < deadline, said()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)


def _awaits_default(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process, whose command is over, comes to catch SIGINT no more before it ends."""
    deadline, bit = time.monotonic() + PATIENCE_SECONDS, 1 << (signal.SIGINT - 1)
    while process.poll() is None and time.monotonic() < deadline:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        caught = next(line for line in lines if line.startswith("SigCgt:"))
        if not int(caught.split()[1], 16) & bit:
            return True
        time.sleep(0.01)
    return False
