"""Where local jobs live: any path a person may choose, and a user without a home folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.layout import output_uri
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.storage import locate

pytestmark = pytest.mark.slow


def test_output_in_a_home_with_spaces_and_umlauts_is_where_storage_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Callable[..., Job]
) -> None:
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "my jobs ü %41"))
    folder = Home.of_environment().create("FineTuneJob", "cwe")
    assert locate(output_uri(job(), folder)).local == folder.output


def test_a_user_without_a_home_is_asked_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("ZEROTUNE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ConfigurationError, match="no home folder") as rejected:
        Home.of_environment()
    assert "ZEROTUNE_HOME" in rejected.value.hint


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_a_locale_without_the_letters_of_a_name_ends_no_command(tmp_path: Path, command: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("kind: FineTuneJob\nmetadata: {name: 漢字}\nspec: {}\n", encoding="utf-8")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = subprocess.run(
        [str(Path(sys.executable).with_name("zerotune")), command, str(file)],
        env=os.environ | ascii_only,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 64
    assert "Traceback" not in ended.stderr
    assert "metadata.name" in ended.stdout + ended.stderr
