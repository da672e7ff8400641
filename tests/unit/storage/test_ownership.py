"""Whose a results folder is: one job's, and of its attempts the latest's, whoever comes when and dies where."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.storage.contenders import CONTENDERS, all_at_once, assert_one_wins, identity, outcome
from zerotune_trainer.errors import ConfigurationError, SupersededError, TemporaryError
from zerotune_trainer.ownership import OWNER_NAME, Ownership, open_output
from zerotune_trainer.storage import Folder

pytestmark = pytest.mark.slow


@pytest.fixture(params=["file", "s3"])
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Folder]:
    """A results folder as each of several hosts opens it: a volume that all share, or a bucket."""
    if request.param == "file":
        return lambda _: open_output(f"file://{tmp_path}/out", tmp_path)
    uri = f"s3://{request.getfixturevalue('bucket')}/out"
    return lambda host: open_output(uri, tmp_path / host)


def test_of_many_jobs_at_once_one_acquires_a_folder(tmp_path: Path) -> None:
    def claim(number: int, trial: int) -> None:
        Ownership(open_output(f"file://{tmp_path}/{trial}", tmp_path), identity(str(number))).acquire()

    acts = [lambda trial, number=number: claim(number, trial) for number in range(CONTENDERS)]
    assert_one_wins(all_at_once(acts, rounds=150))


def test_of_many_jobs_at_once_one_acquires_a_bucket(bucket: str, tmp_path: Path) -> None:
    def claim(number: int, trial: int) -> None:
        folder = open_output(f"s3://{bucket}/{trial}", tmp_path / str(number))
        Ownership(folder, identity(str(number))).acquire()

    acts = [lambda trial, number=number: claim(number, trial) for number in range(CONTENDERS)]
    assert_one_wins(all_at_once(acts, rounds=5))


def test_of_many_jobs_at_once_one_acquires_a_folder_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some FUSE file systems and network shares permit no hard link."""

    def reject(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", reject)

    def claim(number: int, trial: int) -> None:
        Ownership(open_output(f"file://{tmp_path}/{trial}", tmp_path), identity(str(number))).acquire()

    acts = [lambda trial, number=number: claim(number, trial) for number in range(CONTENDERS)]
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
    def claim(number: int, trial: int) -> None:
        Ownership(open_output(f"file://{tmp_path}/{trial}", tmp_path), identity(str(number))).acquire()

    for trial in range(10):
        (tmp_path / str(trial)).mkdir()
        (tmp_path / str(trial) / OWNER_NAME).write_text('{"kind": "Fine')
    acts = [lambda trial, number=number: claim(number, trial) for number in range(CONTENDERS)]
    assert_one_wins(all_at_once(acts, rounds=10))


def test_of_attempts_at_once_the_latest_has_the_folder_in_the_end(tmp_path: Path) -> None:
    def ownership(attempt: int, trial: int) -> Ownership:
        return Ownership(open_output(f"file://{tmp_path}/{trial}", tmp_path), identity(attempt=attempt))

    acts = [lambda trial, attempt=attempt: ownership(attempt, trial).acquire() for attempt in range(CONTENDERS)]
    rounds = all_at_once(acts, rounds=15)
    for trial, texts in enumerate(rounds):
        assert texts[-1] == "done"
        assert all(text == "done" or text.startswith("SupersededError") for text in texts), texts
        ends = [outcome(ownership(attempt, trial).verify) for attempt in range(CONTENDERS)]
        assert ends[-1] == "done" and all(text.startswith("SupersededError") for text in ends[:-1]), ends


def test_of_attempts_at_once_the_latest_has_the_bucket_in_the_end(bucket: str, tmp_path: Path) -> None:
    def ownership(attempt: int, trial: int) -> Ownership:
        return Ownership(open_output(f"s3://{bucket}/{trial}", tmp_path / str(attempt)), identity(attempt=attempt))

    acts = [lambda trial, attempt=attempt: ownership(attempt, trial).acquire() for attempt in range(CONTENDERS)]
    for trial, texts in enumerate(all_at_once(acts, rounds=3)):
        assert texts[-1] == "done", texts
        ends = [outcome(ownership(attempt, trial).verify) for attempt in range(CONTENDERS)]
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
    with pytest.raises(TemporaryError, match=f"{OWNER_NAME} is not there"):
        ownership.verify()


def test_of_two_writers_of_one_file_one_wins_whole(tmp_path: Path) -> None:
    folder = open_output(f"file://{tmp_path}/out", tmp_path)
    contents = [letter * 300_000 for letter in (b"a", b"b")]
    acts = [lambda trial, content=content: folder.write(f"part-{trial}", content) for content in contents]
    assert all_at_once(acts, rounds=30) == [["done", "done"]] * 30
    assert all((folder.local / f"part-{trial}").read_bytes() in contents for trial in range(30))
    assert not list(folder.local.glob(".*"))
