"""A launcher works on the folder that its pod was made for, and on no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from zerotune_trainer.config import load_config
from zerotune_trainer.errors import Failure, InternalError
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.launching.identity import this_host
from zerotune_trainer.launching.node import run_node

FOLDER = Path(__file__).parents[2] / "golden" / "plan" / "cpt-two-nodes-zero-2"
HOSTFILE = Hostfile.parse("tune-a0-0.svc slots=2\ntune-a0-1.svc slots=2\n")


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the pod of this folder knows of itself, with no name of its own in the hostfile."""
    config = load_config(FOLDER)
    identity = {
        "ZEROTUNE_JOB_UID": config.job.uid,
        "ZEROTUNE_ATTEMPT": str(config.job.attempt),
        "ZEROTUNE_CONFIG_DIGEST": config.digest(),
    }
    # It would take a folder of this process along, whose launcher it is not.
    monkeypatch.setattr("zerotune_trainer.launching.node.remove_socket", lambda: None)
    for name, value in identity.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ZEROTUNE_HOST", "nowhere")
    return identity


def failure_of_run(tmp_path: Path) -> Failure:
    """Why the launcher ended, without having started anything."""
    code = run_node(FOLDER, termination_log=tmp_path / "log")
    failure = Failure.model_validate_json((tmp_path / "log").read_text())
    assert failure.exit_code == code
    return failure


def test_a_pod_with_its_own_folder_gets_past_the_check(identity: dict[str, str], tmp_path: Path) -> None:
    assert "this host is 'nowhere'" in failure_of_run(tmp_path).message


@pytest.mark.parametrize("variable", ["ZEROTUNE_JOB_UID", "ZEROTUNE_ATTEMPT", "ZEROTUNE_CONFIG_DIGEST"])
def test_a_folder_of_another_job_is_an_error_that_is_retried(
    variable: str, identity: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "another")
    failure = failure_of_run(tmp_path)
    assert (failure.failure_class, failure.exit_code) == ("Internal", 70)
    assert failure.message == (
        f"config.json is of another job or attempt: its {variable} would be {identity[variable]}, this pod's is another"
    )
    assert "nothing was read or written" in failure.hint


def test_the_index_of_a_pod_says_which_host_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the network of its node a pod has the node's host name."""
    monkeypatch.setattr("socket.gethostname", lambda: "worker-7")
    for index in (0, 1):
        monkeypatch.setenv("ZEROTUNE_HOST_INDEX", str(index))
        assert this_host(HOSTFILE) is HOSTFILE.hosts[index]
    assert this_host(HOSTFILE, "tune-a0-0") is HOSTFILE.hosts[0], "a name that was given comes first"


@pytest.mark.parametrize("index", ["2", "-1", "", "x"])
def test_an_index_without_a_host_is_no_fault_of_the_user(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROTUNE_HOST_INDEX", index)
    with pytest.raises(InternalError, match="the hostfile names 2 hosts"):
        this_host(HOSTFILE)
