"""The cluster with zerotune on it, a namespace for jobs, a volume with model and data. All of it goes when tests end.

A cluster that ZEROTUNE_KUBECONFIG names must have the images zerotune.dev/{operator,trainer}:0.1.0 on its nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.workermanage import WorkerController

from tests.e2e.chain import Chain, run_chain
from tests.e2e.object_store import ObjectStore
from tests.e2e.s3_jobs import filled_store, s3_job, secret
from zerotune_devtools.bed.settings import HOST_ADDRESS, NODE_NAME
from zerotune_devtools.harness.installation import Installation, installed
from zerotune_devtools.harness.jobs import one_rank
from zerotune_devtools.harness.kubectl import Namespace, Object
from zerotune_devtools.harness.volume import Volume

_FIGURES = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="session")
def installation(kubeconfig: Path) -> Iterator[Installation]:
    """A release of the chart, on a cluster that keeps its CRDs: other processes test with them."""
    with installed() as made:
        yield made


@pytest.fixture(scope="session")
def namespace(installation: Installation) -> Namespace:
    """The namespace of the jobs."""
    return installation.jobs


@pytest.fixture(scope="session")
def volume(namespace: Namespace) -> Volume:
    """The claim `cwe`, filled."""
    made = Volume(namespace)
    made.fill()
    return made


@pytest.fixture(scope="session")
def chain(installation: Installation, volume: Volume, figures: dict[str, str]) -> Chain:
    """cpt > sft > ask, run to the end."""
    ran = run_chain(installation)
    figures["kubectl apply to the first training step"] = f"{ran.first_step_seconds:.1f} s"
    for name, value in ran.cost.items():
        figures[f"operator, for a chain of three jobs: {name}"] = f"{value:.2f}"
    return ran


@pytest.fixture(scope="session")
def succeeded(chain: Chain) -> Object:
    """Status of the FineTuneJob `cpt`: two nodes, four ranks, ZeRO-3."""
    return chain.at_last["ftj/cpt"]


@pytest.fixture(scope="session")
def store(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A store on S3, with model and data."""
    if not namespace.get(f"node/{NODE_NAME}"):
        pytest.skip(f"only pods of the test bed are known to reach this machine, at {HOST_ADDRESS}")
    with filled_store(tmp_path_factory.mktemp("store")) as made:
        yield made


@pytest.fixture(scope="session")
def on_s3(store: ObjectStore, namespace: Namespace) -> Object:
    """Status of a job that read and wrote there."""
    namespace.apply(secret("s3-keys", store.environment()), s3_job("on-s3", "s3-keys", topology=one_rank()))
    return namespace.phase("ftj/on-s3", "Succeeded")


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> dict[str, str]:
    """What was measured on the way, printed at the end."""
    return pytestconfig.stash.setdefault(_FIGURES, {})


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the figures of a worker of xdist to the process that prints them."""
    if isinstance(output := getattr(session.config, "workeroutput", None), dict):
        output["figures"] = session.config.stash.get(_FIGURES, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    """Take the figures of a worker."""
    found = getattr(node, "workeroutput", {}).get("figures", {})
    node.config.stash.setdefault(_FIGURES, {}).update(found)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell the figures."""
    for name, value in config.stash.get(_FIGURES, {}).items():
        terminalreporter.write_line(f"{name}: {value}")
