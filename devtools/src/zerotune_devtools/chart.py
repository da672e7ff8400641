"""The chart, through helm: rendered, checked, packaged, installed."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from zerotune_devtools import cluster
from zerotune_devtools.bed import components
from zerotune_devtools.checkout import CHART, cache_folder

Object = dict[str, Any]


@functools.cache
def kubeconfig() -> Path:
    """The cluster's, which is brought up if need be."""
    return cluster.up()


def kubectl(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl on the cluster, to whatever end."""
    return subprocess.run(kubectl_command(*arguments), capture_output=True, text=True, input=stdin)


def kubectl_command(*arguments: str) -> list[str]:
    """The command line of kubectl on the cluster."""
    program = cache_folder() / "bin" / "kubectl"
    return [str(program) if program.exists() else "kubectl", "--kubeconfig", str(kubeconfig()), *arguments]


def helm(*arguments: str | Path, values: Object | None = None, on_cluster: bool = False) -> str:
    """What helm prints; only what is installed takes a cluster.

    Raises:
        subprocess.CalledProcessError: helm failed; why is in `stderr`.
    """
    given = ["--values", "-"] if values is not None else []
    where = {"KUBECONFIG": str(kubeconfig())} if on_cluster else {}
    return subprocess.run(
        [components.build(("helm",)) / "helm", *arguments, *given],
        check=True,
        capture_output=True,
        text=True,
        input=json.dumps(values or {}),
        env=os.environ | where,
    ).stdout


def render(
    values: Object, namespace: str = "zerotune-system", chart: Path = CHART, arguments: Sequence[str] = ()
) -> list[Object]:
    """The objects of a release named `zerotune`, that of `helm test` included."""
    text = helm("template", "zerotune", chart, "--namespace", namespace, *arguments, values=values)
    return [found for found in yaml.safe_load_all(text) if found]


def copy(folder: Path, group: str, version: str) -> Path:
    """The chart as another version whose kinds are of another group: a release of it leaves the real kinds alone."""
    target = folder / version
    shutil.copytree(CHART, target, ignore=shutil.ignore_patterns("examples"))
    for path in (target / "files" / "crds").glob("*.yaml"):
        path.write_text(path.read_text().replace("zerotune.dev", group))
    metadata = target / "Chart.yaml"
    metadata.write_text(metadata.read_text().replace("\nversion: 0.1.0\n", f"\nversion: {version}\n"))
    return target
