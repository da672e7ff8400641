"""What an error while writing means: another try may help, unless a person must change something first."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from zerotune_trainer.errors import ConfigurationError, TemporaryError
from zerotune_trainer.ownership import writing_errors
from zerotune_trainer.storage.locations import store_errors


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_temporary(number: int) -> None:
    with pytest.raises(TemporaryError, match="file:///out cannot be written") as caught, writing_errors("file:///out"):
        raise OSError(number, os.strerror(number), "/out/a")
    assert "disk is not full" in caught.value.hint


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EREMOTEIO, errno.ENOENT, None]
)
def test_a_volume_that_gives_up_for_a_while_is_temporary(number: int | None) -> None:
    error = OSError(number, os.strerror(number), "/out/a") if number else OSError("curl said no")
    with pytest.raises(TemporaryError, match="file:///out cannot be written") as caught, writing_errors("file:///out"):
        raise error
    assert "volume is mounted and answers" in caught.value.hint


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR])
def test_a_place_that_may_not_be_written_is_for_a_person_to_change(number: int) -> None:
    with (
        pytest.raises(ConfigurationError, match="file:///out cannot be written") as caught,
        writing_errors("file:///out"),
    ):
        raise OSError(number, os.strerror(number), "/out/a")
    assert "this user may write" in caught.value.hint


def test_a_folder_in_the_place_of_a_file_is_for_a_person_to_take_away(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a folder where a file is wanted"), store_errors(str(tmp_path)):
        tmp_path.read_bytes()
