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


def test_a_named_cluster_is_asked_to_pull_and_not_loaded(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_without_go_the_error_asks_to_install_it(programs: Path) -> None:
    with pytest.raises(RuntimeError, match=r"helm is built from source.* no `go` in PATH: install Go 1\.26"):
        components.build(("helm",))


KIND = """
state="$(/usr/bin/dirname "$0")/clusters"; /usr/bin/touch "$state"
case "$*" in
  "get clusters") /bin/cat "$state" ;;
  "create cluster --name zerotune --wait 120s") echo zerotune >> "$state" ;;
  "export kubeconfig --name zerotune --kubeconfig "*) /bin/grep -qx zerotune "$state" && echo kind > "$6" ;;
  "load docker-image --name zerotune "*) shift 4; echo "$*" > "$state.images" ;;
  "delete cluster --name zerotune") /bin/rm "$state" ;;
  *) echo "unknown command: $*" >&2; exit 64 ;;
esac
"""
"""As much of kind's command line as is used; anything else is an error, as it is of kind itself."""


@pytest.fixture
def kind_programs(programs: Path) -> Path:
    """The only folder of the PATH, with kind and Docker: an image that was built, and one of somebody else."""
    _write(programs / "kind", KIND)
    _write(
        programs / "docker",
        '[ "$1" = info ] || [ "$3" != "reference=zerotune.dev/*" ] || echo zerotune.dev/trainer:0.1.0',
    )
    for name in ("kubectl", "helm"):
        _write(programs / name)
    return programs


def test_with_docker_and_kind_the_cluster_is_one_of_kind_and_made_once(kind_programs: Path) -> None:
    made = cluster.up()
    assert cluster.up() == made == cache_folder() / "kind.kubeconfig"
    assert made.read_text() == "kind\n"
    assert (kind_programs / "clusters").read_text() == "zerotune\n"

    assert cluster.load() == ["zerotune.dev/trainer:0.1.0"]
    assert (kind_programs / "clusters.images").read_text() == "zerotune.dev/trainer:0.1.0\n"
    cluster.down()
    assert not (kind_programs / "clusters").exists()


def test_kind_without_a_docker_that_answers_is_not_used(kind_programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(kind_programs / "docker", "exit 1")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(RuntimeError, match="start Docker and install kind"):
        cluster.up()


def test_loading_into_kind_before_images_are_built_says_what_builds_them(kind_programs: Path) -> None:
    _write(kind_programs / "docker")

    with pytest.raises(RuntimeError, match="make images"):
        cluster.load()


def test_the_version_of_go_is_the_one_that_the_modules_ask_for() -> None:
    for module in components.SOURCES.glob("*/go.mod"):
        assert f"\ngo {components.GO}." in module.read_text()


def test_the_command_ends_with_a_sentence_and_not_with_a_traceback(programs: Path) -> None:
    environment = os.environ | {"ZEROTUNE_KUBECONFIG": "/home/me/trial"}

    ended = subprocess.run([COMMAND, "load"], env=environment, capture_output=True, text=True)

    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ZEROTUNE_KUBECONFIG is /home/me/trial")
    assert len(ended.stderr.splitlines()) == 1


def test_who_is_not_root_is_reported_what_a_cluster_takes(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(RuntimeError, match=r"needs Linux and root: .* ZEROTUNE_KUBECONFIG"):
        cluster.up()


@pytest.mark.cluster
def test_kubectl_and_helm_ask_the_chosen_cluster_whatever_the_shell_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from zerotune_devtools import chart

    monkeypatch.setenv("KUBECONFIG", "/home/me/production")

    assert "node/" in chart.kubectl("get", "nodes", "-o", "name").stdout
    assert "NAMESPACE" in chart.helm("list", on_cluster=True)
