"""`zero.offloadParam: nvme` on this machine: what it needs is looked for before anything starts."""

from __future__ import annotations

import pytest

from zerotune_operator.api.load import InvalidManifestError, parse_job
from zerotune_operator.backends.local.requirements import require_local

pytestmark = pytest.mark.slow


def test_a_machine_that_cannot_have_the_operator_rejects_the_job_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compilers that look for libaio where it is not: here there is none elsewhere, or CPATH would be asked first."""
    for name in ("CFLAGS", "LDFLAGS", "CPATH", "LIBRARY_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    spec = {
        "model": {"uri": "hf://a/b"},
        "engine": "zero",
        "zero": {"offloadParam": "nvme"},
        "data": {"uris": ["file:///data/d.jsonl"]},
    }
    head = {"apiVersion": "zerotune.dev/v1alpha1", "kind": "InferenceJob", "metadata": {"name": "disk"}}
    with pytest.raises(InvalidManifestError) as caught:
        require_local(parse_job({**head, "spec": spec}))
    (problem,) = caught.value.problems
    assert "needs DeepSpeed's operator async_io" in str(problem)
    assert "install libaio with its header" in str(problem)
