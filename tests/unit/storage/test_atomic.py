"""Small files that are whole or absent, while other processes take their drafts for those of a writer that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from zerotune_trainer import atomic
from zerotune_trainer.atomic import create_exclusively, remove_drafts, write_atomically


def test_a_draft_that_another_process_removes_is_written_anew(tmp_path: Path) -> None:
    calls = []

    def verify() -> None:
        calls.append(len(list(tmp_path.iterdir())))
        if len(calls) < 3:
            remove_drafts(tmp_path)

    def pieces() -> Iterator[bytes]:
        yield from (b"who", b"le")

    write_atomically(tmp_path / "file", pieces, verify)
    assert calls == [1, 1, 1]
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"whole")]


def test_a_writer_that_may_not_any_more_writes_nothing_anew(tmp_path: Path) -> None:
    calls = []

    def verify() -> None:
        calls.append(1)
        if len(calls) > 1:
            raise PermissionError("superseded")
        remove_drafts(tmp_path)

    with pytest.raises(PermissionError, match="superseded"):
        write_atomically(tmp_path / "file", b"late", verify)
    assert not list(tmp_path.iterdir())


def test_a_writer_whose_drafts_are_always_removed_gives_up(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "file", b"whole", lambda: remove_drafts(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", [False, True])
def test_a_file_is_created_once_though_drafts_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    real, calls = atomic.os.link, []

    def link(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 1:
            remove_drafts(tmp_path)
            if there:
                target.write_bytes(b"another's")
        real(source, target)

    monkeypatch.setattr(atomic.os, "link", link)
    assert create_exclusively(tmp_path / "file", b"mine") is not there
    assert (tmp_path / "file").read_bytes() == (b"another's" if there else b"mine")
    assert len(list(tmp_path.iterdir())) == 1
