"""Where Docker runs and kind is there: the command lines that both are given, as stand-ins on the PATH record them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from zerotune_devtools import cluster
from zerotune_devtools.checkout import ROOT, cache_folder
from zerotune_devtools.images import build, push

RECORDER = """#!/bin/sh
echo "$(basename "$0") $*" >> "$RECORD"
case "$(basename "$0") $1 $2" in
  "docker info "*) exit "$(cat "$ANSWERS/daemon")" ;;
  "docker images "*) cat "$ANSWERS/images" ;;
  "kind get clusters") cat "$ANSWERS/clusters" ;;
esac
"""
BUILT = ["zerotune.dev/operator:0.1.0", "zerotune.dev/trainer:0.1.0"]


@dataclass(frozen=True)
class StandIns:
    """docker and kind: what they were asked, and what they answer."""

    folder: Path

    def answer(self, name: str, lines: list[str]) -> None:
        """`daemon` is the exit code of `docker info`; `images` and `clusters` are what is there."""
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines))

    @property
    def asked(self) -> list[str]:
        """The command lines, but for the question whether there is a daemon."""
        lines = (self.folder / "record").read_text().splitlines()
        return [line for line in lines if line != "docker info"]


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIns:
    """The programs of the PATH are those that a machine with Docker and kind has."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("docker", "kind", "kubectl", "helm"):
        (programs / name).write_text(RECORDER)
        (programs / name).chmod(0o755)
    for name in ("basename", "cat", "git"):
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    for name, value in {"PATH": programs, "RECORD": tmp_path / "record", "ANSWERS": tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("ZEROTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ZEROTUNE_KUBECONFIG", raising=False)
    made = StandIns(tmp_path)
    made.answer("daemon", ["0"])
    made.answer("images", BUILT)
    made.answer("clusters", [])
    return made


def test_up_creates_a_cluster_and_writes_its_kubeconfig_to_a_file(stand_ins: StandIns) -> None:
    kubeconfig = cluster.up()

    assert kubeconfig == cache_folder() / "kind.kubeconfig"
    assert stand_ins.asked == [
        "kind get clusters",
        "kind create cluster --name zerotune --wait 120s",
        f"kind export kubeconfig --name zerotune --kubeconfig {kubeconfig}",
    ]
    assert {path.name for path in (cache_folder() / "bin").iterdir()} == {"kubectl", "helm"}


def test_up_leaves_a_cluster_that_is_there_alone(stand_ins: StandIns) -> None:
    stand_ins.answer("clusters", ["other", "zerotune"])

    kubeconfig = cluster.up()

    assert stand_ins.asked == [
        "kind get clusters",
        f"kind export kubeconfig --name zerotune --kubeconfig {kubeconfig}",
    ]


def test_load_gives_kind_what_docker_has_built(stand_ins: StandIns) -> None:
    assert cluster.load() == BUILT

    assert stand_ins.asked == [
        "docker images --filter reference=zerotune.dev/* --format {{.Repository}}:{{.Tag}}",
        f"kind load docker-image --name zerotune {' '.join(BUILT)}",
    ]


def test_load_of_nothing_says_how_to_build_images(stand_ins: StandIns) -> None:
    stand_ins.answer("images", [])

    with pytest.raises(RuntimeError, match=r"no image named zerotune\.dev/.* `make images`"):
        cluster.load()

    assert not [line for line in stand_ins.asked if line.startswith("kind")]


def test_down_deletes_the_cluster_of_ours(stand_ins: StandIns) -> None:
    cluster.down()

    assert stand_ins.asked == ["kind delete cluster --name zerotune"]


def test_docker_without_a_daemon_is_not_asked_for_a_cluster(
    stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins.answer("daemon", ["1"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(RuntimeError, match="the test bed needs Linux and root"):
        cluster.up()

    assert stand_ins.asked == []


def test_a_kind_that_fails_ends_the_command(stand_ins: StandIns) -> None:
    (stand_ins.folder / "programs" / "kind").write_text("#!/bin/sh\nexit 3\n")

    command = Path(sys.executable).with_name("zerotune-cluster")

    assert subprocess.run([command, "up"], capture_output=True, check=False).returncode != 0


def test_docker_builds_each_image_with_the_index_as_a_secret(
    stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["build", "--torch-backend", "cuda", "--trackers"])

    build.main()

    operator, trainer = sorted(stand_ins.asked)
    assert operator.startswith(f"docker build --file {Path('images/operator/Dockerfile')} --tag {BUILT[0]} ")
    assert trainer.startswith(
        f"docker build --file {Path('images/trainer/Dockerfile')} --tag {BUILT[1]}-cuda-trackers "
    )
    assert "--build-arg TORCH_BACKEND=cuda --build-arg TRACKERS=yes" in trainer
    assert "TORCH_BACKEND" not in operator and "TRACKERS" not in operator
    for line in (operator, trainer):
        assert "--secret id=package-index,src=" in line
        assert line.endswith(" .")


def test_docker_pushes_each_image_under_its_new_name(
    stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["push", "registry.example.com/team/"])

    push.main()

    pushed = [name.replace("zerotune.dev", "registry.example.com/team") for name in BUILT]
    _, *others = stand_ins.asked
    assert others == [
        line
        for built, target in zip(BUILT, pushed, strict=True)
        for line in (f"docker tag {built} {target}", f"docker push {target}")
    ]
    assert capsys.readouterr().out.split() == pushed


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building changes into it: the test's own folder is put back."""
    monkeypatch.chdir(ROOT)
