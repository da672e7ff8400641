"""`zerotune-inspect`, as a pod runs it: the shape of a model, on stdout and in the termination log, or why not."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from zerotune_operator.backends.model_shape import shape_of_file
from zerotune_trainer.errors import Failure

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
MODEL = ROOT / "tests" / "golden" / "plan" / "models" / "tiny-llama.json"
Inspect = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def inspect(tmp_path: Path) -> Inspect:
    """Runs it; gives its exit code and what it printed, which is the same in both places."""

    def run(uri: str, *options: str) -> tuple[int, dict[str, Any]]:
        log = tmp_path / "termination-log"
        command = [sys.executable, "-m", "zerotune_trainer.inspect_model", uri, "--termination-log", str(log), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        assert done.stdout == log.read_text() + "\n"
        return done.returncode, json.loads(done.stdout)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text(MODEL.read_text())
    (path / "model.safetensors").touch()
    return path


def test_the_shape_of_a_folder(inspect: Inspect, folder: Path) -> None:
    code, printed = inspect(folder.as_uri())
    assert (code, printed) == (0, {"shape": shape_of_file(MODEL).model_dump(by_alias=True, exclude_none=True)})
    assert printed["shape"]["hiddenSize"] == 128


def test_the_shape_of_a_model_in_a_bucket(inspect: Inspect, bucket: str) -> None:
    boto3.resource("s3").Bucket(bucket).put_object(Key="m/config.json", Body=MODEL.read_bytes())
    code, printed = inspect(f"s3://{bucket}/m/")
    assert (code, printed) == (0, {"shape": shape_of_file(MODEL).model_dump(by_alias=True, exclude_none=True)})
    code, printed = inspect(f"s3://{bucket}/none")
    assert (code, printed["class"], printed["exitCode"]) == (66, "InputMissing", 66)
    assert f"s3://{bucket}/none/config.json is not there" in printed["message"]


def test_a_folder_without_weights_or_without_a_model(inspect: Inspect, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    code, printed = inspect(folder.as_uri())
    assert code == 66
    assert printed["message"] == f"{folder} holds no weights: there is no *.safetensors and no pytorch_model*.bin"
    (folder / "config.json").write_text('{"model_type": "t5"}')
    code, printed = inspect(folder.as_uri())
    assert (code, printed["class"]) == (64, "Configuration")
    assert printed["message"] == f"{folder}/config.json: there is no hidden_size"
    code, printed = inspect((folder / "nowhere").as_uri())
    assert (code, Failure.model_validate(printed).failure_class) == (66, "InputMissing")


def test_a_store_or_hub_that_does_not_answer(
    inspect: Inspect, s3_environment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    code, printed = inspect("s3://bucket/model")
    assert (code, printed["class"]) == (75, "Temporary")
    code, printed = inspect("hf://org/model", "--revision", "v2")
    assert (code, printed["class"]) == (75, "Temporary")
    assert "http://127.0.0.1:9/org/model/resolve/v2/config.json does not answer" in printed["message"]


def test_a_termination_log_that_cannot_be_written_is_reported(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zerotune_trainer.inspect_model", folder.as_uri(), "--termination-log", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert "cannot be written: Is a directory" in json.loads(done.stdout)["message"]


def test_it_imports_neither_torch_nor_arrow_for_a_folder(folder: Path) -> None:
    code = (
        "import sys; from zerotune_trainer.inspect_model import inspect; inspect(sys.argv[1], None); "
        "print([name for name in ('torch', 'pyarrow', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, folder.as_uri()], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_it_is_a_command() -> None:
    scripts = tomllib.loads((ROOT / "trainer" / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["zerotune-inspect"] == "zerotune_trainer.inspect_model:main"
