"""Which cluster tests run on, and what this machine must have for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zerotune_devtools import cluster
from zerotune_devtools.bed import components
from zerotune_devtools.checkout import cache_folder

COMMAND = Path(sys.executable).with_name("zerotune-cluster")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of the PATH, and an empty cache."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("ZEROTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ZEROTUNE_KUBECONFIG", raising=False)
    return folder


def _write(program: Path, script: str = "true") -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_the_kubeconfig_of_the_shell_is_no_cluster_for_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/home/me/production")
    monkeypatch.delenv("ZEROTUNE_KUBECONFIG", raising=False)
    assert cluster.named() is None

    monkeypatch.setenv("ZEROTUNE_KUBECONFIG", "/home/me/trial")
    assert cluster.named() == Path("/home/me/trial")


def test_a_named_cluster_is_told_to_pull_and_not_loaded(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROTUNE_KUBECONFIG", "/home/me/trial")

    with pytest.raises(RuntimeError, match=r"/home/me/trial, a cluster of your own: .* `make push REGISTRY="):
        cluster.load()


def test_a_named_cluster_is_used_with_the_programs_of_the_path(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROTUNE_KUBECONFIG", "/home/me/trial")
    for name in ("kubectl", "helm"):
        _write(programs / name)

    assert cluster.up() == Path("/home/me/trial")

    linked = cache_folder() / "bin"
    assert {path.name: path.readlink() for path in linked.iterdir()} == {
        name: programs / name for name in ("kubectl", "helm")
    }


def test_a_program_that_is_not_in_the_path_is_built(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROTUNE_KUBECONFIG", "/home/me/trial")
    _write(programs / "kubectl")
    _write(programs / "go", '/bin/mkdir "$GOBIN" && echo built > "$GOBIN/helm"')

    cluster.up()

    assert (cache_folder() / "bin" / "helm").read_text() == "built\n"


def test_without_go_one_is_told_to_install_it(programs: Path) -> None:
    with pytest.raises(RuntimeError, match=r"helm is built from source.* no `go` in PATH: install Go 1\.26"):
        components.build(("helm",))


def test_the_version_of_go_is_the_one_that_the_modules_ask_for() -> None:
    for module in components.SOURCES.glob("*/go.mod"):
        assert f"\ngo {components.GO}." in module.read_text()


def test_the_command_ends_with_a_sentence_and_not_with_a_traceback(programs: Path) -> None:
    environment = os.environ | {"ZEROTUNE_KUBECONFIG": "/home/me/trial"}

    ended = subprocess.run([COMMAND, "load"], env=environment, capture_output=True, text=True)

    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ZEROTUNE_KUBECONFIG is /home/me/trial")
    assert len(ended.stderr.splitlines()) == 1


def test_who_is_not_root_is_told_what_a_cluster_takes(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(RuntimeError, match=r"needs Linux and root: .* ZEROTUNE_KUBECONFIG"):
        cluster.up()


@pytest.mark.cluster
def test_kubectl_and_helm_ask_the_chosen_cluster_whatever_the_shell_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from zerotune_devtools import chart

    monkeypatch.setenv("KUBECONFIG", "/home/me/production")

    assert "node/" in chart.kubectl("get", "nodes", "-o", "name").stdout
    assert "NAMESPACE" in chart.helm("list", on_cluster=True)
