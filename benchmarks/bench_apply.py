"""Seconds from `kubectl apply` to the end of the first training step: two nodes of two ranks, ZeRO-3, on a cluster.

    ours      a FineTuneJob
    baseline  an Indexed Job with its Service and ConfigMap, as one writes them by hand: same image, same folder

What is written by hand is what the operator made of a first FineTuneJob, under another name and owned by nobody. Both
sides know the model: who writes by hand, from there; the operator, as a job of the namespace has read it before. The
end of the step is when rank 0 writes its record of it. Model and data lie on a claim.
"""

from __future__ import annotations

import json
import time

from zerotune_devtools import cluster
from zerotune_devtools.benchmarks.pairs import Comparison, parser, report
from zerotune_devtools.harness.installation import installed
from zerotune_devtools.harness.jobs import fine_tune_job
from zerotune_devtools.harness.kubectl import Namespace, Object
from zerotune_devtools.harness.volume import Volume

_KINDS = "configmaps,secrets,services,networkpolicies,jobs"
_FIRST = "written-down"
"""The job whose objects the baseline's are: a name that is part of nothing else."""
_OURS = "zerotune.dev/job-"
"""What labels begin with by which the operator knows its objects."""
_ADDED = ("batch.kubernetes.io/", "controller-uid", "job-name")
"""What labels begin with that the API server adds to a Job's pods."""


def main() -> None:
    """Run the pairs and print the figures."""
    options = parser(__doc__, pairs=5, steps=1).parse_args()
    cluster.up_with_images()
    with installed(progress_interval=10) as installation:
        volume = Volume(installation.jobs)
        volume.fill()
        bench = Bench(installation.jobs, volume, options.steps)
        bench.ours(_FIRST)
        written = bench.as_written()
        measured = [(bench.ours(f"ours-{n}"), bench.baseline(f"hand-{n}", written)) for n in range(options.pairs)]
    report(
        [Comparison("first step", "s", [ours for ours, _ in measured], [hand for _, hand in measured])], options.json
    )


class Bench:
    """Jobs of one training step each, in one namespace."""

    def __init__(self, namespace: Namespace, volume: Volume, steps: int) -> None:
        self._namespace, self._volume, self._steps = namespace, volume, steps

    def ours(self, name: str) -> float:
        """Seconds that a FineTuneJob takes."""
        training = {"globalBatchSize": 4, "maxSteps": self._steps}
        began = time.time()
        self._namespace.apply(fine_tune_job(name, training=training))
        self._namespace.phase(f"ftj/{name}", "Succeeded")
        return self._first_step(name) - began

    def as_written(self) -> str:
        """The manifests of the first job's objects, as JSON: what one writes who does without the operator."""
        found = self._namespace.list(_KINDS, f"zerotune.dev/job-name={_FIRST},app.kubernetes.io/component=trainer")
        return json.dumps([_by_hand(each) for each in found]).replace(_OURS, "example.com/job-")

    def baseline(self, name: str, written: str) -> float:
        """Seconds that the objects take which are written by hand."""
        began = time.time()
        objects = json.loads(written.replace(_FIRST, name))
        [job] = [each["metadata"]["name"] for each in objects if each["kind"] == "Job"]
        self._namespace.apply(*objects)
        self._namespace.kubectl("wait", f"job/{job}", "--for=condition=Complete", "--timeout=120s")
        return self._first_step(name) - began

    def _first_step(self, name: str) -> float:
        """When its last record was written: the time of the one step there is."""
        return self._volume.changed(f"output/{name}/metrics.jsonl")


def _by_hand(found: Object) -> Object:
    """An object without what the API server added, and without what makes it the operator's."""
    metadata = found["metadata"]
    kept = {name: found[name] for name in ("apiVersion", "kind", "data", "immutable", "spec") if name in found}
    if found["kind"] == "Job":
        del kept["spec"]["selector"]
        template = kept["spec"]["template"]["metadata"]
        for container in kept["spec"]["template"]["spec"]["containers"]:
            # Nobody checks by them that the configuration is the pod's own, and another name makes it another one.
            container["env"] = [each for each in container["env"] if not each["name"].startswith("ZEROTUNE_")]
        template["labels"] = {key: value for key, value in template["labels"].items() if not key.startswith(_ADDED)}
    return kept | {"metadata": {"name": metadata["name"], "labels": metadata["labels"]}}


if __name__ == "__main__":
    main()
