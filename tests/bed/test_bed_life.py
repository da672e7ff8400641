"""The test bed heals when it is half dead, and leaves nothing behind when it goes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from zerotune_devtools.bed import bed, settings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
_POD = ["run", "sleeper", "--image=zerotune.dev/operator:0.1.0", "--restart=Never", "--command", "--", "sleep", "600"]


@pytest.fixture
def running() -> Iterator[bed.Bed]:
    """A test bed of its own, or the one that runs, with a pod in it; up again at the end as it was."""
    test_bed = bed.Bed()
    test_bed.up()
    test_bed.kubectl("delete", "pod", "sleeper", "--ignore-not-found", "--now")
    test_bed.kubectl(*_POD)
    test_bed.kubectl("wait", "pod/sleeper", "--for=condition=Ready", "--timeout=120s")
    yield test_bed
    test_bed.up()


def test_down_leaves_no_process_interface_mount_or_cgroup(running: bed.Bed) -> None:
    root = str(running.folders.root)

    running.down()

    assert root not in _command_lines()
    assert root not in Path("/proc/mounts").read_text()
    assert not Path("/sys/class/net", bed.INTERFACE).exists()
    assert not list(Path("/sys/fs/cgroup").glob("**/kubepods*"))
    assert not running.folders.root.exists()
    assert settings.POD_NETWORK not in subprocess.run(["iptables-save"], capture_output=True, text=True).stdout


@pytest.mark.parametrize("component", ["kube-apiserver", "containerd"])
def test_up_replaces_a_bed_of_which_a_part_hangs(running: bed.Bed, component: str) -> None:
    before = running.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
    os.kill(running.pid_of(component), signal.SIGSTOP)

    running.up()

    assert running.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}") != before
    running.kubectl("wait", f"node/{settings.NODE_NAME}", "--for=condition=Ready", "--timeout=60s")


def _command_lines() -> str:
    listed = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True)
    return listed.stdout
