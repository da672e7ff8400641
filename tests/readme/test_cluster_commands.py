"""The READMEs' commands about a cluster are run in order, as a newcomer would, on one that has nothing of ours."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from tests.readme.commands import (
    CHART_README,
    EXAMPLE_REGISTRY,
    HERE,
    INSTALL_NOTHING,
    MAKES_CLUSTER,
    NEED_A_CLUSTER,
    NEW_CLUSTER,
    OWN_CLUSTER,
    TAKE_AWAY,
    TRIAL,
    blocks,
    on_a_cluster_of_ours,
    run,
)
from tests.readme.registry import serve
from zerotune_devtools import cluster
from zerotune_devtools.bed.bed import Bed
from zerotune_devtools.images.build import Docker

pytestmark = [pytest.mark.cluster, on_a_cluster_of_ours]


def take_away(commands: Sequence[str], earlier: Sequence[str]) -> ExitStack:
    """Runs these at the end of a block, each whatever became of the one before; KEEP_CLUSTER is heeded as by make."""
    stack = ExitStack()
    for command in reversed(commands):
        if command != "make cluster-down" or not os.environ.get("KEEP_CLUSTER"):
            stack.callback(run, command, earlier)
    return stack


@pytest.mark.timeout(600)
def test_every_command_of_the_chart_does_what_its_readme_says() -> None:
    cluster.up_with_images()
    earlier = [*HERE, *MAKES_CLUSTER]
    run(NEW_CLUSTER, earlier)
    install, last = blocks(CHART_README)
    with take_away(last, earlier):
        printed = [run(command, earlier) for command in install]
    assert re.search(r"Phase:\s+Succeeded", printed[1])


@pytest.mark.timeout(1200)
def test_a_cluster_of_ones_own_pulls_what_was_pushed() -> None:
    if Docker.is_used():  # Then the cluster is kind, too; else it is the test bed, which trusts this registry.
        pytest.skip("docker and the nodes of kind trust a registry without TLS only where their owner tells them to")
    cluster.up()
    replaced = (*MAKES_CLUSTER, "helm install", "python examples/quickstart/seed_volume.py")
    namespace, label, filled, apply, *_ = [line for line in TRIAL if not line.startswith(replaced)]
    with serve(Bed()) as (registry, environment):
        own = [line.replace(EXAMPLE_REGISTRY, registry) for line in OWN_CLUSTER]
        *push_and_install, seed = own
        earlier = [*HERE, *MAKES_CLUSTER, *own]
        run(NEW_CLUSTER, earlier)
        with take_away([line for line in TAKE_AWAY if line != "make cluster-down"], earlier):
            for command in [*push_and_install, namespace, label, seed, filled, apply]:
                run(command, earlier, environment)
            run("kubectl wait --namespace cwe ftj/cwe-cpt --for=jsonpath={.status.phase}=Running --timeout=5m", earlier)
            images = "kubectl get pods --output jsonpath='{.items[*].spec.containers[*].image}' --namespace"
            assert set(run(f"{images} zerotune-system", earlier).split()) == {f"{registry}/operator:0.1.0"}
            assert set(run(f"{images} cwe", earlier).split()) == {f"{registry}/trainer:0.1.0"}
            claim = run("kubectl get pvc/cwe --namespace cwe --output jsonpath='{.spec.accessModes}'", earlier)
            assert claim == '["ReadWriteMany"]'


@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", [line for line in NEED_A_CLUSTER if line not in INSTALL_NOTHING])
def test_a_benchmark_on_a_cluster_runs(command: str) -> None:
    assert command in HERE
    assert "ratio" in run(command, HERE, {"KEEP_CLUSTER": "1"})


@pytest.mark.timeout(1800)
def test_every_command_about_a_cluster_does_what_the_readme_says() -> None:
    printed = {}
    run(NEW_CLUSTER, [*HERE, *MAKES_CLUSTER])
    with take_away(TAKE_AWAY, [*HERE, *TRIAL]):
        for number, command in enumerate(TRIAL):
            printed[command] = run(command, [*HERE, *TRIAL[:number]])
    shown = next(text for command, text in printed.items() if command.startswith("kubectl get"))
    assert re.findall(r"cwe-(cpt|sft|ask) .* (Succeeded) ", shown) == [
        ("cpt", "Succeeded"),
        ("sft", "Succeeded"),
        ("ask", "Succeeded"),
    ]
