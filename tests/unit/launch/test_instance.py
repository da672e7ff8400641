"""What a container of a SageMaker training job finds below `/opt/ml`, and makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zerotune_trainer.config import RENDEZVOUS_FILE
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError
from zerotune_trainer.failures import describe
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.launching.instance import Instance, actual_hostfile

HOSTFILE = "algo-1 slots=8\nalgo-2 slots=8\n"


def instance(root: Path, **resources: Any) -> Instance:
    config, channel = root / "input" / "config", root / "input" / "data" / "zerotune"
    config.mkdir(parents=True)
    channel.mkdir(parents=True)
    found = {"current_host": "algo-2", "hosts": ["algo-2", "algo-1"], "network_interface_name": "eth0"} | resources
    (config / "resourceconfig.json").write_text(json.dumps(found))
    files = {"hostfile": HOSTFILE, "config.json": "{}", RENDEZVOUS_FILE: "secret", "status-uri": "s3://bbb/status\n"}
    for name, text in files.items():
        (channel / name).write_text(text)
    return Instance(root)


def test_the_job_folder_is_the_channel_and_its_secret_is_for_the_owner_alone(tmp_path: Path) -> None:
    target = tmp_path / "job"
    target.mkdir()
    found = instance(tmp_path / "ml")
    assert found.write_job_folder(target).render() == HOSTFILE == (target / "hostfile").read_text()
    assert (target / RENDEZVOUS_FILE).stat().st_mode & 0o777 == 0o600
    assert found.status_uri() == "s3://bbb/status"


def test_hosts_of_other_names_take_the_places_of_those_that_were_planned() -> None:
    planned = Hostfile.parse(HOSTFILE)
    assert actual_hostfile(planned, ["127.0.0.1", "127.0.0.2"]).render() == "127.0.0.1 slots=8\n127.0.0.2 slots=8\n"
    assert actual_hostfile(planned, ["algo-2", "algo-1"]) == planned, "rank order is the plan's"


def test_another_number_of_hosts_than_planned_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="has 3 hosts, and the hostfile 2"):
        actual_hostfile(Hostfile.parse(HOSTFILE), ["a", "b", "c"])


def planned_for(root: Path, **resources: Any) -> Instance:
    """An instance of a job that was planned for two instance types."""
    found, channel = instance(root, **resources), root / "input" / "data" / "zerotune"
    for name, slots in (("ml.p4d.24xlarge", 8), ("ml.g5.12xlarge", 4)):
        folder = channel / name
        folder.mkdir()
        (folder / "hostfile").write_text(f"algo-1 slots={slots}\nalgo-2 slots={slots}\n")
        (folder / "config.json").write_text(json.dumps({"of": name}))
    for name in ("hostfile", "config.json"):
        (channel / name).unlink()
    return found


def test_the_job_folder_is_that_of_the_instance_type_that_was_selected(tmp_path: Path) -> None:
    target = tmp_path / "job"
    target.mkdir()
    found = planned_for(tmp_path / "ml", current_instance_type="ml.g5.12xlarge")
    assert found.write_job_folder(target).render() == "algo-1 slots=4\nalgo-2 slots=4\n"
    assert json.loads((target / "config.json").read_text()) == {"of": "ml.g5.12xlarge"}
    assert sorted(path.name for path in target.iterdir()) == sorted(
        [RENDEZVOUS_FILE, "config.json", "hostfile", "status-uri"]
    )


def test_an_instance_type_that_nothing_was_planned_for_is_an_error(tmp_path: Path) -> None:
    found = planned_for(tmp_path, current_instance_type="ml.p5.48xlarge")
    with pytest.raises(ConfigurationError, match=r"of type ml\.p5\.48xlarge, .* planned for ml\.g5\.12xlarge, ml"):
        found.planned_hostfile()


def test_a_host_that_is_not_among_the_hosts_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="current_host 'algo-9' is not one of the hosts"):
        instance(tmp_path, current_host="algo-9").resources()


def test_a_training_job_without_our_channel_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="has no channel 'zerotune'"):
        Instance(tmp_path).planned_hostfile()


def test_the_failure_that_sagemaker_shows_says_the_cause_in_its_limit(tmp_path: Path) -> None:
    Instance(tmp_path).write_failure(describe(DataError(f"record 7 has no text: {'x' * 2000}", "correct it")))
    text = (tmp_path / "output" / "failure").read_text()
    assert text.startswith("Data (exit code 65): record 7 has no text") and len(text) == 1024


@pytest.mark.slow
def test_the_command_outside_of_a_training_job_says_so(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("zerotune-sagemaker")
    done = subprocess.run(
        [command], env={"ZEROTUNE_OPT_ML": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == InputMissingError.exit_code, done.stdout + done.stderr
    assert "resourceconfig.json is not there" in (tmp_path / "output" / "failure").read_text()
