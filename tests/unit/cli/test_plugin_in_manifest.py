"""A plug-in in a ConfigMap of the manifest is looked at with the job that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.plan.conftest import fine_tune_job, inference_job
from zerotune_operator.cli.app import build
from zerotune_operator.cli.plugin_file import check_config_map
from zerotune_trainer.errors import ConfigurationError, InputMissingError, ZerotuneError

JOB: dict[str, Any] = {
    "apiVersion": "zerotune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "cwe"},
    "spec": {
        "method": "sft",
        "model": {"uri": "pvc://models/base"},
        "data": {"train": {"uris": ["s3://aaa/b.jsonl"]}},
        "output": {"uri": "s3://aaa/out"},
        "plugin": {"configMap": {"name": "mine"}, "processing": "clean"},
    },
}


def config_map(source: str, **metadata: str) -> dict[str, Any]:
    return {"kind": "ConfigMap", "metadata": {"name": "mine"} | metadata, "data": {"plugin.py": source}}


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("def clear(record): return record", InputMissingError, "plugin.configMap: mine/plugin.py defines no 'clean'"),
        ("clean = 1", ConfigurationError, "mine/plugin.py:clean cannot be called: it is of type int"),
        ("def clean(", ConfigurationError, "mine/plugin.py is not Python"),
    ],
)
def test_what_a_config_map_of_the_manifest_lacks_is_named(
    source: str, error: type[ZerotuneError], message: str
) -> None:
    plugin = {"configMap": {"name": "mine"}, "processing": "clean"}
    for job in (fine_tune_job(plugin=plugin), inference_job(plugin=plugin)):
        with pytest.raises(error, match=message):
            check_config_map(job, [job, config_map(source)])


def test_a_key_that_a_config_map_has_not_is_named() -> None:
    job = fine_tune_job(plugin={"configMap": {"name": "mine", "key": "other.py"}, "processing": "clean"})
    with pytest.raises(InputMissingError, match=r"ConfigMap mine has no key 'other.py'"):
        check_config_map(job, [config_map("")])


def test_other_config_maps_are_left_alone() -> None:
    job = fine_tune_job(plugin={"configMap": {"name": "mine"}, "processing": "clean"})
    check_config_map(job, [config_map("", name="another"), config_map("", namespace="elsewhere"), {"kind": "Secret"}])
    check_config_map(fine_tune_job(), [config_map("")])


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_validate_and_plan_look_at_it(tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump_all([{"apiVersion": "v1"} | config_map("clean = 1"), JOB]))
    try:
        code = build().main([command, str(path)], prog_name="zerotune", standalone_mode=False)
        assert code == ConfigurationError.exit_code
        said = capsys.readouterr().err
    except ConfigurationError as error:
        said = str(error)
    assert "plugin.configMap: mine/plugin.py:clean cannot be called: it is of type int" in said
