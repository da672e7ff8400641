"""Whose a results folder is: one job's, and of its attempts the latest's, whoever comes when and dies where."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zerotune_trainer.config import JobIdentity
from zerotune_trainer.errors import ConfigurationError, SupersededError, TemporaryError
from zerotune_trainer.ownership import OWNER_NAME, Ownership, open_output, writing_errors
from zerotune_trainer.storage import Folder

pytestmark = pytest.mark.slow

FORK = multiprocessing.get_context("fork")
CONTENDERS = 4


def identity(uid: str = "one", attempt: int = 0) -> JobIdentity:
    return JobIdentity(kind="FineTuneJob", name=f"job-{uid}", uid=uid, attempt=attempt)


@pytest.fixture(params=["file", "s3"])
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Folder]:
    """A results folder as each of several hosts opens it: a volume that all share, or a bucket."""
    if request.param == "file":
        return lambda _: open_output(f"file://{tmp_path}/out", tmp_path)
    uri = f"s3://{request.getfixturevalue('bucket')}/out"
    return lambda host: open_output(uri, tmp_path / host)


def outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except (ConfigurationError, SupersededError, TemporaryError) as error:
        return f"{type(error).__name__}: {error.message}"
    return "done"


def all_at_once(acts: list[Callable[[int], object]], rounds: int) -> list[list[str]]:
    """What comes of each act in each round; every act has a process of its own, and all begin a round together."""
    start, results = FORK.Barrier(len(acts)), FORK.SimpleQueue()

    def contend(number: int) -> None:
        for turn in range(rounds):
            start.wait()
            results.put((turn, number, outcome(lambda turn=turn: acts[number](turn))))

    processes = [FORK.Process(target=contend, args=(number,)) for number in range(len(acts))]
    for process in processes:
        process.start()
    came = sorted(results.get() for _ in range(rounds * len(acts)))
    for process in processes:
        process.join()
    return [[text for turn, _, text in came if turn == wanted] for wanted in range(rounds)]


def assert_one_wins(rounds: list[list[str]]) -> None:
    for texts in rounds:
        assert texts.count("done") == 1, texts
        winner = texts.index("done")
        losers = [text for text in texts if text != "done"]
        assert all(f"belongs to FineTuneJob job-{winner} ({winner})" in text for text in losers), texts
        assert all(text.startswith("ConfigurationError") for text in losers), texts


def test_of_many_jobs_at_once_one_acquires_a_folder(tmp_path: Path) -> None:
    def claim(number: int, turn: int) -> None:
        Ownership(open_output(f"file://{tmp_path}/{turn}", tmp_path), identity(str(number))).acquire()

    acts = [lambda turn, number=number: claim(number, turn) for number in range(CONTENDERS)]
    assert_one_wins(all_at_once(acts, rounds=150))


def test_of_many_jobs_at_once_one_acquires_a_bucket(bucket: str, tmp_path: Path) -> None:
    def claim(number: int, turn: int) -> None:
        folder = open_output(f"s3://{bucket}/{turn}", tmp_path / str(number))
        Ownership(folder, identity(str(number))).acquire()

    acts = [lambda turn, number=number: claim(number, turn) for number in range(CONTENDERS)]
    assert_one_wins(all_at_once(acts, rounds=5))


def test_of_many_jobs_at_once_one_acquires_a_folder_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some FUSE file systems and network shares permit no hard link."""

    def reject(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", reject)

    def claim(number: int, turn: int) -> None:
        Ownership(open_output(f"file://{tmp_path}/{turn}", tmp_path), identity(str(number))).acquire()

    acts = [lambda turn, number=number: claim(number, turn) for number in range(CONTENDERS)]
    assert_one_wins(all_at_once(acts, rounds=10))


def test_a_volume_without_locks_lets_a_later_attempt_take_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As NFS is where no lock manager runs."""

    def reject(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    folder = open_output(f"file://{tmp_path}/out", tmp_path)
    Ownership(folder, identity(attempt=0)).acquire()
    monkeypatch.setattr(fcntl, "flock", reject)
    Ownership(folder, identity(attempt=1)).acquire()
    Ownership(folder, identity(attempt=1)).verify()
    assert "has no locks" in caplog.text


def test_of_many_jobs_at_once_one_replaces_a_torn_owner_file(tmp_path: Path) -> None:
    def claim(number: int, turn: int) -> None:
        Ownership(open_output(f"file://{tmp_path}/{turn}", tmp_path), identity(str(number))).acquire()

    for turn in range(10):
        (tmp_path / str(turn)).mkdir()
        (tmp_path / str(turn) / OWNER_NAME).write_text('{"kind": "Fine')
    acts = [lambda turn, number=number: claim(number, turn) for number in range(CONTENDERS)]
    assert_one_wins(all_at_once(acts, rounds=10))


def test_of_attempts_at_once_the_latest_has_the_folder_in_the_end(tmp_path: Path) -> None:
    def ownership(attempt: int, turn: int) -> Ownership:
        return Ownership(open_output(f"file://{tmp_path}/{turn}", tmp_path), identity(attempt=attempt))

    acts = [lambda turn, attempt=attempt: ownership(attempt, turn).acquire() for attempt in range(CONTENDERS)]
    rounds = all_at_once(acts, rounds=15)
    for turn, texts in enumerate(rounds):
        assert texts[-1] == "done"
        assert all(text == "done" or text.startswith("SupersededError") for text in texts), texts
        ends = [outcome(ownership(attempt, turn).verify) for attempt in range(CONTENDERS)]
        assert ends[-1] == "done" and all(text.startswith("SupersededError") for text in ends[:-1]), ends


def test_of_attempts_at_once_the_latest_has_the_bucket_in_the_end(bucket: str, tmp_path: Path) -> None:
    def ownership(attempt: int, turn: int) -> Ownership:
        return Ownership(open_output(f"s3://{bucket}/{turn}", tmp_path / str(attempt)), identity(attempt=attempt))

    acts = [lambda turn, attempt=attempt: ownership(attempt, turn).acquire() for attempt in range(CONTENDERS)]
    for turn, texts in enumerate(all_at_once(acts, rounds=3)):
        assert texts[-1] == "done", texts
        ends = [outcome(ownership(attempt, turn).verify) for attempt in range(CONTENDERS)]
        assert ends[-1] == "done" and all(text.startswith("SupersededError") for text in ends[:-1]), ends


def test_a_later_attempt_takes_over_and_the_earlier_one_is_reported(open_again: Callable[[str], Folder]) -> None:
    first, second = (Ownership(open_again(f"host-{n}"), identity(attempt=n)) for n in (1, 2))
    first.acquire()
    first.verify()
    second.acquire()
    second.verify()
    for late in (first.verify, first.acquire):
        with pytest.raises(SupersededError) as caught:
            late()
        assert "belongs to attempt 2 of job-one by now, this is attempt 1" in caught.value.message
    second.acquire()


def test_another_job_reads_whose_the_folder_is(open_again: Callable[[str], Folder]) -> None:
    Ownership(open_again("a"), identity()).acquire()
    other = Ownership(open_again("b"), identity("two"))
    for late in (other.verify, other.acquire):
        with pytest.raises(ConfigurationError, match=r"belongs to FineTuneJob job-one \(one\), this is .* job-two"):
            late()


@pytest.mark.parametrize("torn", [b"", b'{"kind": "FineTuneJob", "na', b"\0" * 40])
def test_a_torn_owner_file_is_nobodys(open_again: Callable[[str], Folder], torn: bytes) -> None:
    open_again("a").write(OWNER_NAME, torn)
    ownership = Ownership(open_again("b"), identity())
    ownership.acquire()
    ownership.verify()


def test_a_torn_owner_file_beside_other_files_is_reported(open_again: Callable[[str], Folder]) -> None:
    open_again("a").write(OWNER_NAME, b"")
    open_again("a").write("model.safetensors", b"weights")
    with pytest.raises(ConfigurationError, match=r"no job has written: model.safetensors, and its .* cannot be read"):
        Ownership(open_again("b"), identity()).acquire()


def test_a_missing_owner_file_says_nothing_of_the_job(
    open_again: Callable[[str], Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zerotune_trainer.storage.folder._LATE_SECONDS", 1)
    ownership = Ownership(open_again("a"), identity())
    ownership.acquire()
    open_again("a").remove(OWNER_NAME)
    with pytest.raises(TemporaryError, match=f"{OWNER_NAME} is gone"):
        ownership.verify()


def in_a_process(act: Callable[[], object]) -> int | None:
    def run() -> None:
        sys.exit(outcome(act) != "done")

    process = FORK.Process(target=run)
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("attempt", [0, 1], ids=["first claim", "takeover"])
@pytest.mark.parametrize("limit", [0, 10, 50])
def test_a_full_disk_while_acquiring_is_passed_by_the_next_attempt(tmp_path: Path, attempt: int, limit: int) -> None:
    """A limit on the size of files stands for the disk."""
    folder = open_output(f"file://{tmp_path}/out", tmp_path)
    for earlier in range(attempt):
        Ownership(folder, identity(attempt=earlier)).acquire()

    def acquire() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(TemporaryError, match="cannot be written"):
            Ownership(folder, identity(attempt=attempt)).acquire()

    assert in_a_process(acquire) == 0
    Ownership(folder, identity(attempt=attempt + 1)).acquire()
    assert not list(folder.local.glob("*.draft"))


@pytest.mark.parametrize("attempt", [0, 1], ids=["first claim", "takeover"])
def test_kill_9_at_every_call_of_acquiring_is_passed_by_the_next_attempt(tmp_path: Path, attempt: int) -> None:
    """Every call of the system that changes or syncs a file, one after the other, until a run needs no more of them."""
    for count in range(1, 60):
        folder = open_output(f"file://{tmp_path}/{count}", tmp_path)
        for earlier in range(attempt):
            Ownership(folder, identity(attempt=earlier)).acquire()

        def acquire(folder: Folder = folder, count: int = count) -> None:
            sys.addaudithook(_Killer(str(folder.local), count))
            Ownership(folder, identity(attempt=attempt)).acquire()

        code = in_a_process(acquire)
        Ownership(folder, identity(attempt=attempt + 1)).acquire()
        Ownership(folder, identity(attempt=attempt + 1)).verify()
        if code == 0:
            assert count > 5, "the case does not test what it is for"
            return
        assert code == -signal.SIGKILL
        assert not list(folder.local.glob(".*.draft"))
    raise AssertionError("acquiring did not end")


class _Killer:
    """An audit hook that kills its process at its count-th event about a file of a folder."""

    def __init__(self, folder: str, count: int) -> None:
        self.folder, self.left = folder, count

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.link", "os.rename", "os.remove") and str(arguments[0]).startswith(self.folder):
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)


def test_kill_9_at_every_call_of_replacing_a_file_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    old, new = b"old" * 1000, b"new" * 1000
    for count in range(1, 60):
        folder = open_output(f"file://{tmp_path}/{count}", tmp_path)
        folder.write("work/manifest.json", old)

        def replace(folder: Folder = folder, count: int = count) -> None:
            sys.addaudithook(_Killer(str(folder.local), count))
            folder.write("work/manifest.json", new)

        code = in_a_process(replace)
        assert (folder.local / "work/manifest.json").read_bytes() in (old, new)
        if code == 0:
            assert count > 3, "the case does not test what it is for"
            return
        assert code == -signal.SIGKILL
        folder.write("work/manifest.json", new)
        assert (folder.local / "work/manifest.json").read_bytes() == new
    raise AssertionError("writing did not end")


@pytest.mark.parametrize("limit", [0, 100])
def test_a_full_disk_while_replacing_a_file_leaves_the_old_one(tmp_path: Path, limit: int) -> None:
    folder = open_output(f"file://{tmp_path}/out", tmp_path)
    folder.write("manifest.json", b"old")

    def replace() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(TemporaryError, match="cannot be written"), writing_errors(folder.uri):
            folder.write("manifest.json", b"new" * 1000)

    assert in_a_process(replace) == 0
    assert {path.name: path.read_bytes() for path in folder.local.iterdir()} == {"manifest.json": b"old"}


def test_of_two_writers_of_one_file_one_wins_whole(tmp_path: Path) -> None:
    folder = open_output(f"file://{tmp_path}/out", tmp_path)
    contents = [letter * 300_000 for letter in (b"a", b"b")]
    acts = [lambda turn, content=content: folder.write(f"part-{turn}", content) for content in contents]
    assert all_at_once(acts, rounds=30) == [["done", "done"]] * 30
    assert all((folder.local / f"part-{turn}").read_bytes() in contents for turn in range(30))
    assert not list(folder.local.glob(".*"))
