"""Files and result folders, on this machine and on S3."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path

import boto3
import pytest

from zerotune_trainer import storage
from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError

pytestmark = pytest.mark.slow

NAMES = [
    "a.jsonl",
    "b.txt",
    "sub/c.jsonl",
    "sub/deep/d.jsonl",
    "_SUCCESS",
    ".hidden.jsonl",
    "sub/.x/e.jsonl",
    "_m.jsonl",
]


def tree(root: Path) -> Path:
    for number, name in enumerate(NAMES):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * number)
    return root


@pytest.fixture(params=["file", "s3"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same tree of files in either store."""
    local = tree(tmp_path / "tree")
    if request.param == "file":
        return f"file://{local}"
    uri = f"s3://{request.getfixturevalue('bucket')}/tree"
    folder = storage.open_folder(uri, tmp_path / "cache")
    tree(folder.local)
    folder.push(NAMES)
    return uri


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("", ["a.jsonl", "sub/c.jsonl", "sub/deep/d.jsonl"]),
        ("/a.jsonl", ["a.jsonl"]),
        ("/*.jsonl", ["a.jsonl"]),
        ("/?.txt", ["b.txt"]),
        ("/[ab].*", ["a.jsonl", "b.txt"]),
        ("/*/c.jsonl", ["sub/c.jsonl"]),
        ("/**/*.jsonl", ["a.jsonl", "sub/c.jsonl", "sub/deep/d.jsonl"]),
        ("/_*.jsonl", ["_m.jsonl"]),
        ("/sub/**", ["sub/c.jsonl", "sub/deep/d.jsonl"]),
    ],
)
def test_file_glob_and_folder_list_the_same_in_either_store(base: str, pattern: str, names: list[str]) -> None:
    files = storage.list_files(base + pattern, [".jsonl"])
    assert [(file.uri, file.size) for file in files] == [(f"{base}/{name}", NAMES.index(name)) for name in names]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("/none.jsonl", "none.jsonl is not there"),
        ("/*.csv", "stands for no file"),
        ("/none/*.csv", "stands for no file"),
        ("/sub", "stands for no file"),
    ],
)
def test_nothing_there_is_named(base: str, pattern: str, message: str) -> None:
    with pytest.raises(InputMissingError, match=message):
        storage.list_files(base + pattern, [".csv"])


def test_version_changes_with_the_content(base: str, tmp_path: Path) -> None:
    before = storage.list_files(f"{base}/b.txt", [])
    assert storage.list_files(f"{base}/b.txt", []) == before
    folder = storage.open_folder(base, tmp_path / "cache")
    (folder.local / "b.txt").write_text("y")
    folder.push(["b.txt"])
    assert storage.list_files(f"{base}/b.txt", [])[0].version != before[0].version


def test_read_and_stream(base: str) -> None:
    assert storage.read_bytes(f"{base}/sub/deep/d.jsonl") == b"xxx"
    with storage.open_input(f"{base}/sub/c.jsonl") as file:
        assert list(file) == [b"xx"]


def test_r44_results_reach_s3_file_by_file(bucket: str, tmp_path: Path) -> None:
    folder = storage.open_folder(f"s3://{bucket}/out/model", tmp_path / "cache")
    content = {
        "config.json": b"{}",
        "model-00001.safetensors": os.urandom(3_000_000),
        "checkpoints/checkpoint-4/state.json": b"[]",
    }
    for name, data in content.items():
        (folder.local / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.local / name).write_bytes(data)
    folder.push(["config.json", "model-00001.safetensors", "checkpoints"])
    found = storage.list_files(folder.uri, [""])
    assert {file.uri: storage.read_bytes(file.uri) for file in found} == {
        f"s3://{bucket}/out/model/{name}": data for name, data in content.items()
    }
    assert folder.children() == ["checkpoints", "config.json", "model-00001.safetensors"]


def test_another_node_pulls_what_was_pushed(bucket: str, tmp_path: Path) -> None:
    one = storage.open_folder(f"s3://{bucket}/out", tmp_path / "one")
    (one.local / "checkpoint-2/rank1").mkdir(parents=True)
    (one.local / "checkpoint-2/rank1/state").write_bytes(b"two")
    one.push(["checkpoint-2"])
    other = storage.open_folder(f"s3://{bucket}/out", tmp_path / "other")
    other.pull("checkpoint-2")
    assert (other.local / "checkpoint-2/rank1/state").read_bytes() == b"two"
    other.pull("checkpoint-9")
    assert not (other.local / "checkpoint-9").exists()


def test_a_child_is_removed_in_the_store_and_here(base: str, tmp_path: Path) -> None:
    folder = storage.open_folder(base, tmp_path / "cache")
    folder.remove("sub")
    folder.remove("b.txt")
    folder.remove("never-there")
    assert [name for name in folder.children() if not name.startswith(".")] == ["_SUCCESS", "_m.jsonl", "a.jsonl"]
    assert not (folder.local / "sub").exists() and not (folder.local / "b.txt").exists()


def test_a_folder_of_this_machine_is_used_in_place(tmp_path: Path) -> None:
    folder = storage.open_folder(f"file://{tmp_path}/new/out", tmp_path / "cache")
    assert folder.local == tmp_path / "new/out" and folder.local.is_dir() and folder.children() == []
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("detour", ["shared/./x/..", "shared//", "x/../shared", "shared/x/y/../.."])
def test_a_path_with_detours_is_the_folder_that_it_leads_to(tmp_path: Path, detour: str) -> None:
    """Nothing else is made: a folder x would be a file that no job has written to the others of this folder."""
    folder = storage.open_folder(f"file://{tmp_path}/{detour}", tmp_path / "cache")
    assert folder.local == tmp_path / "shared"
    assert list(tmp_path.rglob("*")) == [tmp_path / "shared"]


@pytest.mark.parametrize(
    ("uri", "message", "hint"),
    [
        ("hf://org/data", "neither file:// nor s3://", "hf://datasets/ORG/NAME"),
        ("pvc://claim/x", "neither file:// nor s3://", "mounted by the backend"),
        ("file://data/x", "relative path", "absolute path"),
    ],
)
def test_what_holds_no_files_is_rejected(uri: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        storage.list_files(uri, [])
    assert hint in caught.value.hint


def test_a_place_that_cannot_be_a_folder_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputMissingError, match="file/out is not there"):
        storage.open_folder(f"file://{tmp_path}/file/out", tmp_path / "cache")


def test_a_file_that_links_multiply_is_listed_once(tmp_path: Path) -> None:
    """Loops, links to a folder above, a `latest` beside what it stands for, a link to a file: 3 files are 3 files."""
    for name in ("run-1/a.jsonl", "run-2/a.jsonl", "run-2/deep/b.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "latest").symlink_to("run-2")
    (tmp_path / "run-2/deep/loop").symlink_to(tmp_path)
    (tmp_path / "run-1/other").symlink_to("../run-2")
    (tmp_path / "run-2/other").symlink_to("../run-1")
    (tmp_path / "a-link.jsonl").symlink_to("run-2/deep/b.jsonl")
    (tmp_path / "broken.jsonl").symlink_to("nowhere")
    expected = [f"file://{tmp_path}/{name}" for name in ("run-1/a.jsonl", "run-2/a.jsonl", "run-2/deep/b.jsonl")]
    for pattern in ("", "/**", "/**/*.jsonl"):
        assert [file.uri for file in storage.list_files(f"file://{tmp_path}{pattern}", [".jsonl"])] == expected
    through = storage.list_files(f"file://{tmp_path}/lat*/*.jsonl", [])
    assert [file.uri for file in through] == [f"file://{tmp_path}/latest/a.jsonl"]


def test_what_a_console_or_another_tool_leaves_in_a_bucket_is_no_file(bucket: str, s3_endpoint: str) -> None:
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    for key in ("data/", "data/sub/", "data/a b+%20.jsonl", "data//c.jsonl", "database/d.jsonl"):
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    found = [file.uri for file in storage.list_files(f"s3://{bucket}/data/", [".jsonl"])]
    assert found == [f"s3://{bucket}/data//c.jsonl", f"s3://{bucket}/data/a b+%20.jsonl"]
    assert [storage.read_bytes(uri) for uri in found] == [b"x", b"x"]


def test_a_key_that_leads_out_of_the_folder_is_rejected(bucket: str, s3_endpoint: str, tmp_path: Path) -> None:
    boto3.client("s3", endpoint_url=s3_endpoint).put_object(Bucket=bucket, Key="model/../../../up", Body=b"x")
    with pytest.raises(ConfigurationError, match=r"model/../../../up has '\.\.' in its key"):
        storage.open_folder(f"s3://{bucket}/model", tmp_path / "cache").pull()
    assert not list(tmp_path.rglob("up"))


def test_an_object_is_read_at_random_and_a_change_is_noticed(bucket: str, s3_endpoint: str) -> None:
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    content = os.urandom(10_000)
    client.put_object(Bucket=bucket, Key="a", Body=content)
    with storage.open_native(f"s3://{bucket}/a") as file:
        assert file.seek(-100, os.SEEK_END) == 9_900
        assert (file.read(1000), file.read(1)) == (content[-100:], b"")
        assert (file.seek(5), file.read(7), file.tell()) == (5, content[5:12], 12)
        client.put_object(Bucket=bucket, Key="a", Body=b"another")
        with pytest.raises(TemporaryError, match=f"s3://{bucket}/a"):
            file.read(1)


def test_a_forked_process_asks_the_store_too(base: str) -> None:
    """Over connections of its own, whatever its parent is doing with the store."""
    assert storage.read_bytes(f"{base}/sub/c.jsonl") == b"xx"
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    processes = [
        context.Process(target=lambda: answers.put(storage.read_bytes(f"{base}/sub/deep/d.jsonl"))) for _ in range(3)
    ]
    for process in processes:
        process.start()
    assert storage.read_bytes(f"{base}/sub/c.jsonl") == b"xx"
    assert [answers.get() for _ in processes] == [b"xxx"] * 3
    for process in processes:
        process.join()


def test_a_file_that_must_be_there_is_waited_for(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another host writes it, and this one sees it late."""
    here, there = (storage.open_folder(base, tmp_path / host) for host in ("here", "there"))
    timer = threading.Timer(0.5, lambda: there.write("late/marker.json", b"{}"))
    timer.start()
    assert here.await_files(["b.txt", "late/marker.json"]) == []
    assert (here.local / "late/marker.json").read_bytes() == b"{}"
    timer.join()
    monkeypatch.setattr("zerotune_trainer.storage.folder._LATE_SECONDS", 0.3)
    assert here.await_files(["b.txt", "never"]) == ["never"]
