"""Pods that cannot find each other by name: the status names those that do not resolve, then the job ends."""

from __future__ import annotations

import pytest

from zerotune_devtools.harness.jobs import fine_tune_job
from zerotune_devtools.harness.kubectl import Namespace, Object
from zerotune_devtools.harness.volume import Volume

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
_HANG_SECONDS = 60


def test_names_that_the_dns_of_a_pod_does_not_know_are_reported_then_end_the_job(
    namespace: Namespace, volume: Volume
) -> None:
    overlay = {"kubernetes": {"pod": {"spec": {"dnsPolicy": "Default"}}}}
    policy = {"maxRestarts": 0, "hangTimeoutSeconds": _HANG_SECONDS}
    namespace.apply(fine_tune_job("no-dns", backend=overlay, runPolicy=policy))
    waiting = namespace.until("ftj/no-dns", _is_unresolved, seconds=240)["status"]
    assert "exitCode" not in waiting["rootCause"], "it waits, nothing has ended"
    failed = namespace.phase("ftj/no-dns", "Failed", seconds=240)
    assert failed["rootCause"]["exitCode"] == 68
    for cause in (waiting["rootCause"], failed["rootCause"]):
        assert cause["class"] == "NameResolution"
        assert "of the hostfile do" in cause["message"]
        assert namespace.attempt("no-dns") in cause["message"]
        assert all(word in cause["hint"] for word in ("DNS", "NetworkPolicy", "Service"))
    assert ("Warning", "NameResolution") in namespace.events("no-dns")
    namespace.kubectl("delete", "ftj/no-dns")


def _is_unresolved(job: Object) -> bool:
    cause = job.get("status", {}).get("rootCause", {})
    return bool(cause.get("class") == "NameResolution")
