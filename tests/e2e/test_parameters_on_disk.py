"""`zero.offloadParam: nvme` in pods: the image has what it needs, and the volume is the pods' to write to."""

from __future__ import annotations

import pytest

from zerotune_devtools.harness.jobs import FOLDER, inference_job, one_rank
from zerotune_devtools.harness.kubectl import Namespace, Object
from zerotune_devtools.harness.volume import Volume

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_pods_with_parameters_on_disk_generate_what_whole_copies_do(namespace: Namespace, volume: Volume) -> None:
    """Parameters of this model are small, and stay in memory for the most part: slow tests run one whose are large."""
    common: Object = {
        "data": {"uris": [f"{FOLDER}/data/bad.jsonl"], "columns": {"prompt": "text"}},
        "generation": {"maxNewTokens": 4},
        "topology": one_rank() | {"nodes": 2},
    }
    namespace.apply(
        inference_job("from-disk", engine="zero", zero={"offloadParam": "nvme"}, **common),
        inference_job("from-memory", engine="transformers", **common),
    )
    for name in ("from-disk", "from-memory"):
        namespace.phase(f"ij/{name}", "Succeeded")
    made = namespace.list("jobs", "zerotune.dev/job-name=from-disk,app.kubernetes.io/component=trainer")[0]
    volumes = {each["name"]: each for each in made["spec"]["template"]["spec"]["volumes"]}
    assert int(volumes["offloaded"]["emptyDir"]["sizeLimit"]) > 0
    assert volume.records("output/from-disk/part-*.jsonl") == volume.records("output/from-memory/part-*.jsonl")
