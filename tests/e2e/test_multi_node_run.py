"""Two nodes of two ranks, ZeRO-3, from `kubectl apply` to Succeeded: what the resource, the volume and kubectl show."""

from __future__ import annotations

import hashlib
import json

import pytest

from zerotune_devtools.harness.jobs import SAVE_STEPS, STEPS
from zerotune_devtools.harness.kubectl import Namespace, Object
from zerotune_devtools.harness.volume import Volume

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_every_rank_is_proven_to_run_where_the_hostfile_says(succeeded: Object, namespace: Namespace) -> None:
    attempt = namespace.attempt("cpt")
    hosts = [f"{attempt}-{index}.ftj-{attempt.removesuffix('-a0')}.{namespace.name}.svc" for index in range(2)]
    nodes = {each["node"] for each in succeeded["topology"]}
    assert [{**each, "node": "NODE"} for each in succeeded["topology"]] == [
        {
            "host": host,
            "hostname": f"{attempt}-{index}",
            "node": "NODE",
            "firstRank": 2 * index,
            "ranks": 2,
            "device": "cpu",
        }
        for index, host in enumerate(hosts)
    ]
    assert nodes <= {node["metadata"]["name"] for node in namespace.list("nodes")}


def test_the_status_reports_the_plan_and_how_it_went(succeeded: Object) -> None:
    plan = succeeded["plan"]
    assert (plan["nodes"], plan["worldSize"], plan["zeroStage"], plan["backend"]) == (2, 4, 3, "kubernetes")
    progress = succeeded["progress"]
    assert (progress["step"], progress["total"], succeeded["display"]["step"]) == (STEPS, STEPS, f"{STEPS}/{STEPS}")
    assert [attempt["outcome"] for attempt in succeeded["attempts"]] == ["Succeeded"]
    assert succeeded["restarts"] == 0
    assert "rootCause" not in succeeded


def test_conditions_follow_the_conventions_of_the_api(succeeded: Object, namespace: Namespace) -> None:
    conditions = {each["type"]: each for each in succeeded["conditions"]}
    assert {name: each["status"] for name, each in conditions.items()} == {
        "Planned": "True",
        "Running": "False",
        "Succeeded": "True",
    }
    job = namespace.get("ftj/cpt")
    assert succeeded["observedGeneration"] == job["metadata"]["generation"] == 1
    assert namespace.kubectl("wait", "ftj/cpt", "--for=condition=Succeeded", "--timeout=1s")


def test_the_output_is_whole_by_its_own_manifest(succeeded: Object, volume: Volume) -> None:
    manifest = volume.json("output/cpt/manifest.json")
    assert (manifest["job"]["name"], manifest["job"]["attempt"], manifest["step"]) == ("cpt", 0, STEPS)
    files = {each["path"]: each for each in manifest["files"]}
    assert {"model.safetensors", "tokenizer.json", "report.html", "README.md", "topology.json"} <= set(files)
    report = volume.text("output/cpt/report.html").encode()
    assert hashlib.sha256(report).hexdigest() == files["report.html"]["sha256"]
    output = succeeded["output"]
    assert (output["uri"], output["files"], output["step"]) == ("pvc://cwe/output/cpt", len(files), STEPS)
    assert output["bytes"] == sum(each["size"] for each in files.values())
    kept = [f"checkpoint-{step}" for step in (STEPS - SAVE_STEPS, STEPS)]
    assert volume.files("output/cpt/checkpoints") == set(kept)


def test_kubectl_get_shows_the_result(succeeded: Object, namespace: Namespace) -> None:
    titles, row = (line.split() for line in namespace.kubectl("get", "ftj", "cpt", "-o", "wide").splitlines())
    shown = dict(zip(titles, row, strict=False))
    assert (shown["NAME"], shown["METHOD"], shown["NODES"], shown["PHASE"]) == ("cpt", "cpt", "2", "Succeeded")
    assert (shown["STEP"], shown["LOSS"]) == (f"{STEPS}/{STEPS}", succeeded["display"]["loss"])


def test_events_are_written_once(succeeded: Object, namespace: Namespace) -> None:
    reported = [(kind, reason) for kind, reason in namespace.events("cpt") if reason != "Pending"]
    assert reported == [("Normal", "Planned"), ("Normal", "Started"), ("Normal", "Succeeded")]
    described = namespace.kubectl("describe", "ftj", "cpt")
    assert "Succeeded" in described.partition("Events:")[2]


def test_what_it_wrote_says_which_ranks_made_it(succeeded: Object, volume: Volume) -> None:
    topology = json.loads(volume.text("output/cpt/topology.json"))
    assert [entry["rank"] for entry in topology] == [0, 1, 2, 3]
