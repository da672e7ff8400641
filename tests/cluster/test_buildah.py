"""`make images` without docker: what it asks of buildah, and when it asks nothing. A stand-in writes the images."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from zerotune_devtools.checkout import ROOT, cache_folder
from zerotune_devtools.images import build, inputs, layout

# Both builds wait for the other to have begun: one after the other, the first would wait in vain.
BUILDAH = f"""#!{sys.executable}
import hashlib, json, os, sys, time
from pathlib import Path

answers = Path(os.environ["ANSWERS"])
command, *arguments = sys.argv[7:]
with (answers / "record").open("a") as record:
    record.write(" ".join([command, *arguments]) + "\\n")

def blob(folder, content):
    data = json.dumps(content).encode()
    digest = hashlib.sha256(data).hexdigest()
    (folder / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    (folder / "blobs/sha256" / digest).write_bytes(data)
    return "sha256:" + digest

if command == "bud":
    reference = arguments[arguments.index("--tag") + 1]
    name = reference.split("/")[1].split(":")[0]
    (answers / f"began-{{name}}").touch()
    deadline = time.monotonic() + 20
    while not all((answers / f"began-{{other}}").exists() for other in ("operator", "trainer")):
        if time.monotonic() > deadline:
            sys.exit("the other image is not being built")
        time.sleep(0.01)
    if (answers / f"fail-{{name}}").exists():
        sys.exit("no space left on device")
    config = {{"arguments": [each for each in arguments if "=" in each and "src=" not in each]}}
    (answers / f"{{name}}.json").write_text(json.dumps(config))
    Path(arguments[arguments.index("--iidfile") + 1]).write_text(blob(answers / "scratch", config))
elif command == "push":
    _, folder, reference = arguments[-1].split(":", 2)
    folder, name = Path(folder), reference.split("/")[1].split(":")[0]
    config = blob(folder, json.loads((answers / f"{{name}}.json").read_text()))
    manifest = blob(folder, {{"config": {{"digest": config}}, "layers": []}})
    index = folder / "index.json"
    known = json.loads(index.read_text())["manifests"] if index.exists() else []
    others = [each for each in known if each["annotations"]["{layout.REFERENCE}"] != reference]
    named = {{"digest": manifest, "annotations": {{"{layout.REFERENCE}": reference}}}}
    index.write_text(json.dumps({{"manifests": [*others, named]}}))
"""
NAMES = ["zerotune.dev/operator:0.1.0", "zerotune.dev/trainer:0.1.0"]


@dataclass(frozen=True)
class StandIn:
    """buildah: what it was asked."""

    folder: Path

    def make_images(self) -> list[str]:
        """What buildah was asked to do by `make images`, and for which image."""
        record = self.folder / "record"
        record.unlink(missing_ok=True)
        build.main()
        lines = record.read_text().splitlines() if record.exists() else []
        asked = [(line.split()[0], name) for line in lines for name in NAMES if name in line]
        return sorted(f"{command} {name}" for command, name in asked if command != "inspect")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "buildah").write_text(BUILDAH)
    for name, script in {"debootstrap": "true", "git": 'cat "$ANSWERS/revision"'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    cat = shutil.which("cat")
    assert cat
    (programs / "cat").symlink_to(cat)
    (tmp_path / "revision").write_text("first\n")
    for name, value in {"PATH": programs, "ANSWERS": tmp_path, "ZEROTUNE_CACHE": tmp_path / "cache"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "argv", ["build"])
    monkeypatch.chdir(ROOT)
    yield StandIn(tmp_path)


def test_both_images_are_built_at_the_same_time(stand_in: StandIn) -> None:
    assert stand_in.make_images() == [f"{command} {name}" for command in ("bud", "push") for name in NAMES]
    assert sorted(layout.images(cache_folder() / "images" / "layout")) == NAMES


@pytest.mark.slow
def test_what_was_built_from_the_same_is_left_alone(stand_in: StandIn) -> None:
    stand_in.make_images()
    assert stand_in.make_images() == []


@pytest.mark.slow
def test_a_build_waits_for_one_that_is_under_way(stand_in: StandIn) -> None:
    stand_in.make_images()
    with ThreadPoolExecutor() as pool:
        with (cache_folder() / "images" / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            second = pool.submit(stand_in.make_images)
            with pytest.raises(TimeoutError):
                second.result(timeout=0.5)
        assert second.result(timeout=20) == []


@pytest.mark.slow
def test_another_revision_is_built(stand_in: StandIn) -> None:
    stand_in.make_images()
    (stand_in.folder / "revision").write_text("second\n")
    assert stand_in.make_images() == [f"{command} {name}" for command in ("bud", "push") for name in NAMES]
    assert stand_in.make_images() == []


def test_an_image_that_lost_a_blob_is_built_again(stand_in: StandIn) -> None:
    stand_in.make_images()
    folder = cache_folder() / "images" / "layout"
    [_, config] = layout.blobs(folder, layout.images(folder)[NAMES[1]])
    layout.blob_path(folder, config).unlink()
    assert stand_in.make_images() == [f"bud {NAMES[1]}", f"push {NAMES[1]}"]


def test_a_base_image_that_is_named_is_neither_made_nor_pulled_before(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = f"registry.example.com/debian@sha256:{64 * '0'}"
    monkeypatch.setattr(sys, "argv", ["build", "--base", base])
    stand_in.make_images()
    lines = (stand_in.folder / "record").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["rm", "bud", "bud", "push", "push"]
    assert all(f"--build-arg BASE={base} " in line for line in lines[1:3])


def test_what_a_killed_build_has_left_is_removed_before_another(stand_in: StandIn) -> None:
    stand_in.make_images()
    assert (stand_in.folder / "record").read_text().splitlines()[0] == "rm --all"


def test_a_build_that_fails_is_named_and_the_other_is_finished(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    (stand_in.folder / "fail-trainer").touch()
    with pytest.raises(SystemExit, match=r"^error: trainer: .*exit status 1"):
        stand_in.make_images()
    assert f"{NAMES[1]} | no space left on device" in capsys.readouterr().out
    assert list(layout.images(cache_folder() / "images" / "layout")) == [NAMES[0]]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A checkout of a few files, with the very `.dockerignore` of this one."""
    shutil.copy(ROOT / ".dockerignore", tmp_path)
    for name in ("images/operator/Dockerfile", "operator/src/zerotune_operator/plan.py", "requirements/operator.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "matters"),
    [
        ("operator/src/zerotune_operator/plan.py", True),
        ("operator/src/zerotune_operator/new.py", True),
        ("requirements/operator.txt", True),
        ("images/operator/Dockerfile", True),
        ("operator/src/zerotune_operator/__pycache__/plan.pyc", False),
        ("operator/src/zerotune_operator.egg-info/PKG-INFO", False),
        ("operator/tests/test_plan.py", False),
        ("README.md", False),
    ],
)
def test_inputs_are_the_files_that_the_build_is_given(context: Path, path: str, matters: bool) -> None:
    before = _digest(context)
    (context / path).parent.mkdir(parents=True, exist_ok=True)
    (context / path).write_text("changed")
    assert (_digest(context) != before) is matters


def test_inputs_are_modes_and_arguments_too(context: Path) -> None:
    before = _digest(context)
    assert _digest(context, "--build-arg", "VERSION=2") != before
    (context / "requirements/operator.txt").chmod(0o755)
    assert _digest(context) != before


def _digest(context: Path, *arguments: str) -> str:
    return inputs.digest(context, Path("images/operator/Dockerfile"), arguments)
