"""An operator of several namespaces works on in the others when one of them is deleted, also when it restarts."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.e2e.stand_in_jobs import model, stand_in_job
from zerotune_devtools import chart
from zerotune_devtools.harness.installation import installed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def test_a_deleted_namespace_keeps_no_other_waiting(kubeconfig: Path) -> None:
    deleted = f"deleted-{uuid.uuid4().hex[:6]}"
    assert chart.kubectl("create", "namespace", deleted).returncode == 0
    with installed(others=[deleted]) as there:
        assert chart.kubectl("delete", "namespace", deleted, "--timeout=60s").returncode == 0
        there.system.kubectl("delete", "pods", "--all", "--timeout=60s")
        there.jobs.apply(model(), stand_in_job("goes-on"))
        there.jobs.phase("ftj/goes-on", "Running", seconds=120)
        log = there.system.kubectl("logs", "deployment/zerotune")
        assert f"{deleted} is left out: the operator may not list Jobs there" in log
