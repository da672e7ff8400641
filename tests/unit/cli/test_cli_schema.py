"""`zerotune validate`, `explain` and `generate` as a person calls them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zerotune_operator.api.crd import KINDS, resource_schema
from zerotune_operator.api.explain import explain
from zerotune_operator.api.schema import Schema
from zerotune_operator.cli import main
from zerotune_operator.cli.app import COMMANDS

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "crds" / "examples"


def _zerotune(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["zerotune", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_validate_says_what_is_fine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cpt, inference = EXAMPLES / "cpt.yaml", EXAMPLES / "infer-transformers.yaml"
    assert _zerotune(monkeypatch, "validate", cpt, inference) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{cpt}: ok, FineTuneJob weaknesses on kubernetes",
        f"{inference}: ok, InferenceJob alert-triage on kubernetes",
    ]


def test_one_bad_file_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text((EXAMPLES / "cpt.yaml").read_text().replace("learningRate:", "learningRat:"))
    nvme = tmp_path / "nvme.yaml"
    nvme.write_text((EXAMPLES / "cpt.yaml").read_text().replace("stage: auto", "offloadParam: nvme"))
    assert _zerotune(monkeypatch, "validate", bad, nvme, EXAMPLES / "sft.yaml") == 64
    out, err = capsys.readouterr()
    assert out == f"{EXAMPLES / 'sft.yaml'}: ok, FineTuneJob log-analyst on kubernetes\n"
    first, second = err.splitlines()
    assert re.fullmatch(
        rf"error: {re.escape(str(bad))}:\d+: spec.training.learningRat is not a field of spec.training: "
        r"did you mean learningRate\?",
        first,
    )
    assert "zero.offloadParam: nvme in training is not supported by this version of zerotune" in second


def test_jobs_of_several_files_that_wait_for_each_other_are_a_ring(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = (EXAMPLES / "cpt.yaml").read_text()
    files = []
    for name, origin in {"one": "two", "two": "three", "three": "one"}.items():
        files.append(tmp_path / f"{name}.yaml")
        model = re.sub(r"(?m)^  model:\n(    .*\n)+", f"  model: {{fromFineTuneJob: {origin}}}\n", text)
        files[-1].write_text(model.replace("name: weaknesses", f"name: {name}"))
    assert _zerotune(monkeypatch, "validate", *files[:2]) == 0
    assert _zerotune(monkeypatch, "validate", *files) == 64
    assert capsys.readouterr().err == (
        "error: each of these jobs waits for the next: FineTuneJob one -> FineTuneJob two -> FineTuneJob three -> "
        "FineTuneJob one\n  hint: have one of them start from a uri, or from a job that is not among them\n"
    )


def test_validate_a_missing_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert _zerotune(monkeypatch, "validate", tmp_path / "none.yaml") == 66
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'none.yaml'} is not there\n  hint: name a file with a FineTuneJob or an InferenceJob\n"
    )


@pytest.mark.parametrize("name", ["finetunejob", "FineTuneJob", "finetunejobs", "ftj"])
def test_explain_a_field(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _zerotune(monkeypatch, "explain", f"{name}.spec.zero.stage") == 0
    out = capsys.readouterr().out
    assert 'FIELD:    spec.zero.stage <IntOrString> = "auto"' in out
    assert "auto, 0, 1, 2, 3" in out


def test_explain_names_the_values_of_every_field_that_has_some() -> None:
    assert "each sigmoid, hinge, ipo, robust, apo_zero, apo_down" in explain("ftj.spec.preference.lossType")
    for kind in KINDS:
        fields = list(_fields(resource_schema(kind)["properties"]["spec"], f"{kind.name}.spec"))
        assert len(fields) > 10
        for field, values in fields:
            assert ", ".join(map(str, values)) in explain(field), field


def _fields(schema: Schema, path: str) -> Iterator[tuple[str, list[object]]]:
    """The fields below one that have an enumeration, their own or that of what they hold."""
    for name, child in schema.get("properties", {}).items():
        inner = child.get("items") or child.get("additionalProperties") or {}
        inner = inner if isinstance(inner, dict) else {}
        if values := child.get("enum") or inner.get("enum"):
            yield f"{path}.{name}", values
        yield from _fields(child if "properties" in child else inner, f"{path}.{name}")


def test_explain_a_part_lists_fields_and_rules(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _zerotune(monkeypatch, "explain", "ij.spec.data") == 0
    out = capsys.readouterr().out
    assert "  uris <[]string> = []\n      Files, globs or folders;" in out
    assert '  overflow <string> = "error"' in out
    assert "  - template makes the prompt out of the record" in out


@pytest.mark.parametrize(
    ("field", "message", "hint"),
    [
        ("ftj.spec.trainin", "ftj.spec has no field 'trainin'", "did you mean training?"),
        ("ftj.spec.method.x", "ftj.spec.method has no field 'x'", "it has no fields"),
        ("finetunjob", "'finetunjob' is not a kind of zerotune.dev/v1alpha1", "did you mean finetunejob?"),
        ("pod", "'pod' is not a kind of zerotune.dev/v1alpha1", "there are finetunejob and inferencejob"),
    ],
)
def test_explain_what_is_not_there(
    field: str, message: str, hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _zerotune(monkeypatch, "explain", field) == 64
    assert capsys.readouterr().err == f"error: {message}\n  hint: {hint}\n"


@pytest.mark.slow
def test_generate_writes_what_check_accepts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert _zerotune(monkeypatch, "generate", tmp_path, "--check") == 64
    assert "run `make generate` and commit the result" in capsys.readouterr().err
    assert _zerotune(monkeypatch, "generate", tmp_path) == 0
    assert _zerotune(monkeypatch, "generate", tmp_path, "--check") == 0
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in (ROOT / "crds").glob("*.yaml")}


def test_help_lists_the_commands_and_imports_none_of_them() -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from zerotune_operator.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [name for name in COMMANDS if f"  {name} " in ended.stdout] == [
        name for name in COMMANDS if name != "generate"
    ]
    for heavy in ("cel_expr_python", "torch", "zerotune_operator.api", "zerotune_operator.cli.run"):
        assert f" {heavy}\n" not in ended.stderr
