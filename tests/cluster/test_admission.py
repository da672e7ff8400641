"""The API server alone, without operator and webhook, takes and rejects what `zerotune validate` does, and says why.

One kubectl process is given a whole file of the corpus, a document a file: it goes on after each rejection.
"""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.api.admission_cases import CORPUS, SCALARS, Case, PlanCase, read_cases, read_plan_cases
from zerotune_devtools import cluster
from zerotune_devtools.checkout import cache_folder
from zerotune_operator.api.crd import KINDS, custom_resource_definition
from zerotune_operator.api.load import InvalidManifestError, check_update, load_jobs, parse_job
from zerotune_operator.api.manifest_yaml import Problem, path_text

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "admission"
MESSAGES = (
    # The description of a map may follow, which says what of it cannot be set.
    (r"must match|control character", r"should match '"),
    (r"\(a group of fields\), must be text", r"unknown field"),
    (r"is not a field of|has its own place|cannot be set", r"unknown field"),
    (r"is missing", r"Required value"),
    (r"must be one of .*|which transformers does not have", r"supported values: "),
    (r"at least (\d+) characters?", r"should be at least \1 chars long"),
    (r"at most (\d+) characters?", r"Too long: may not be more than \1 bytes"),
    (r"at least (\d+) entr(?:y|ies)", r"should have at least \1 items"),
    (r"at most (\d+) entr(?:y|ies)", r"must have at most \1 items"),
    (r"at least (\d+)", r"should be greater than or equal to \1"),
    (r"more than (\d+)", r"should be greater than \1"),
    (r"at most (\d+)", r"should be less than or equal to \1"),
    (r"less than (\d+)", r"should be less than \1"),
    (r"must be (a whole number|a number|text|true or false|a list|a group of fields|of type)", r"must be of type "),
)
"""What `zerotune validate` says, and the API server's message for the same. Rules have one message for both."""


@pytest.fixture(scope="module", autouse=True)
def definitions() -> None:
    _kubectl("apply", "--server-side", "--force-conflicts", "-f", ROOT / "crds")
    names = [f"crd/{plural}.zerotune.dev" for plural in ("finetunejobs", "inferencejobs")]
    _kubectl("wait", *names, "--for=condition=Established", "--timeout=60s")


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"admission-{uuid.uuid4().hex[:8]}"
    _kubectl("create", "namespace", name)
    yield name
    _kubectl("delete", "namespace", name, "--wait=false")


@cache
def _kubeconfig() -> Path:
    return cluster.up()


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = cache_folder() / "bin" / "kubectl"
    command = [program if program.exists() else "kubectl", "--kubeconfig", _kubeconfig(), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _kubectl(*arguments: object) -> str:
    done = _run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _apply(
    cases: Sequence[Case | PlanCase], folder: Path, *arguments: str
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What the API server makes of manifests: objects in order if none is rejected; rejections by the case's name."""
    for index, case in enumerate(cases):
        (folder / f"{index:03}.json").write_text(json.dumps(case.manifest))
    done = _run("apply", "--dry-run=server", "--output=json", "-f", folder, *arguments)
    # kubectl prints a List, but for a single object.
    accepted = json.loads(done.stdout) if done.stdout else {"items": []}
    printed = re.split(r"^(?=Error from server|error when|The \w+ \")", done.stderr, flags=re.MULTILINE)
    rejections = {
        cases[int(found[1])].name: text for text in printed if (found := re.search(r"/(\d{3})\.json\"", text))
    }
    return accepted.get("items", [accepted]), rejections


def _problems(case: Case) -> tuple[Problem, ...]:
    with pytest.raises(InvalidManifestError) as caught:
        parse_job(case.manifest)
    return caught.value.problems


def _expected(message: str, rules: set[str]) -> str:
    """A pattern for what the API server says where `zerotune validate` says `message`."""
    rule = message.partition(": ")[2]
    if rule in rules:
        return re.escape(rule)
    for ours, theirs in MESSAGES:
        if found := re.search(ours, message):
            return found.expand(theirs)
    raise AssertionError(f"MESSAGES has no message for {message}")


def _rules(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _rules(inner)


def test_the_definitions_are_structural_and_served() -> None:
    found = json.loads(_kubectl("get", "crd", "finetunejobs.zerotune.dev", "inferencejobs.zerotune.dev", "-o", "json"))
    for definition in found["items"]:
        conditions = {condition["type"]: condition["status"] for condition in definition["status"]["conditions"]}
        assert conditions == {"NamesAccepted": "True", "Established": "True"}


def test_what_is_wrong_is_rejected_with_the_field_and_the_remedy(tmp_path: Path) -> None:
    cases = read_cases("invalid.yaml")
    _, rejections = _apply(cases, tmp_path)
    assert [case.name for case in cases if case.name not in rejections] == []
    rules = {message for kind in KINDS for message in _rules(custom_resource_definition(kind))}
    unclear = []
    for case in cases:
        printed = rejections[case.name]
        for problem in _problems(case):
            wanted, place = _expected(problem.message, rules), path_text(problem.path)
            if case.kubectl not in printed if case.kubectl else not re.search(wanted, printed) or place not in printed:
                unclear.append(f"{case.name}: {place}: {case.kubectl or wanted!r} is not in {printed}")
    assert not unclear, "\n".join(unclear)


def test_what_is_right_is_accepted_and_read_as_zerotune_reads_it(tmp_path: Path) -> None:
    cases = read_cases("valid.yaml")
    accepted, rejections = _apply(cases, tmp_path)
    assert rejections == {}
    assert len(accepted) == len(cases)
    for case, found in zip(cases, accepted, strict=True):
        ours, theirs = parse_job(case.manifest), parse_job(found)
        assert theirs.spec == ours.spec, case.name
        # Whatever the models have a default for, the API server has filled in.
        assert theirs.spec.model_dump(exclude_unset=True) == ours.spec.model_dump(exclude_none=True), case.name


def test_what_takes_a_plan_to_see_is_accepted(tmp_path: Path) -> None:
    cases = read_plan_cases()
    accepted, rejections = _apply(cases, tmp_path)
    assert (len(accepted), rejections) == (len(cases), {})


def test_numbers_and_strings_are_read_as_zerotune_reads_them(tmp_path: Path) -> None:
    manifest = yaml.safe_dump(read_cases("valid.yaml")[0].manifest) + "  deepspeed:\n"
    path = tmp_path / "scalars.yaml"
    path.write_text(manifest + "".join(f"    s{index}: {text}\n" for index, text in enumerate(SCALARS)))
    found = json.loads(_kubectl("apply", "--dry-run=server", "--output=json", "-f", path))["spec"]["deepspeed"]
    read = {text: found.get(f"s{index}") for index, text in enumerate(SCALARS)}
    assert read == SCALARS


def test_a_file_is_read_as_zerotune_reads_it() -> None:
    path = CORPUS / "numbers.yaml"
    (ours,) = load_jobs(path)
    assert parse_job(json.loads(_kubectl("apply", "--dry-run=server", "--output=json", "-f", path))).spec == ours.spec


@pytest.mark.parametrize("path", sorted((ROOT / "crds" / "examples").iterdir()), ids=lambda path: path.stem)
def test_an_example_has_the_same_verdict_here_and_there(path: Path) -> None:
    done = _run("apply", "--dry-run=server", "-f", path)
    try:
        load_jobs(path)
    except InvalidManifestError as error:
        assert done.returncode == 1
        for problem in error.problems:
            assert f"{path_text(problem.path)}: " in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")


def test_only_what_can_be_carried_out_may_change(namespace: str, tmp_path: Path) -> None:
    bases = {case.base["kind"]: case.base for case in reversed(read_cases("changes.yaml"))}
    cases = [case for case in read_cases("changes.yaml") if case.base == bases[case.base["kind"]]]
    for folder in ("bases", "changed"):
        (tmp_path / folder).mkdir()
    for kind, base in bases.items():
        (tmp_path / "bases" / f"{kind}.json").write_text(json.dumps(base))
    _kubectl("apply", "--namespace", namespace, "-f", tmp_path / "bases")
    _, rejections = _apply(cases, tmp_path / "changed", "--namespace", namespace)
    assert [case.name for case in cases if case.name not in rejections] == [
        case.name for case in cases if not case.expect
    ]
    for case in cases:
        for place, piece in case.complaints:
            assert place in rejections[case.name]
            assert piece in rejections[case.name]


def test_a_change_that_may_be_is_stored_and_reads_as_one(namespace: str, tmp_path: Path) -> None:
    suspend = next(case for case in read_cases("changes.yaml") if case.name == "suspend")
    for manifest in (suspend.base, suspend.manifest):
        (tmp_path / "job.json").write_text(json.dumps(manifest))
        _kubectl("apply", "--namespace", namespace, "-f", tmp_path / "job.json")
    stored = json.loads(
        _kubectl("get", "--namespace", namespace, "finetunejobs.zerotune.dev", "weaknesses", "-o", "json")
    )
    assert (stored["metadata"]["generation"], stored["spec"]["runPolicy"]["suspend"]) == (2, True)
    check_update(parse_job(suspend.base), parse_job(stored))


@pytest.mark.parametrize("kind", ["FineTuneJob", "InferenceJob"])
def test_only_what_sagemaker_can_change_may_change_of_its_backend(namespace: str, tmp_path: Path, kind: str) -> None:
    base = next(case.base for case in read_cases("changes.yaml") if case.base["kind"] == kind)
    backend = {"sagemaker": {"instanceType": "ml.m5.xlarge", "channels": [{"channelName": "a", "s3Uri": "s3://bbb/a"}]}}
    (tmp_path / "job.json").write_text(json.dumps(base | {"spec": base["spec"] | {"backend": backend}}))
    _kubectl("apply", "--namespace", namespace, "-f", tmp_path / "job.json")
    name = f"{kind.lower()}s.zerotune.dev/{base['metadata']['name']}"

    def patch(sagemaker: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        change = json.dumps({"spec": {"backend": {"sagemaker": sagemaker}}})
        return _run("patch", "--namespace", namespace, name, "--type=merge", "--patch", change)

    assert patch({"keepAliveSeconds": 600, "remoteDebug": True}).returncode == 0
    for change in ({"spot": True}, {"channels": []}, {"keepAliveSeconds": 0, "instanceType": "ml.m5.large"}):
        rejected = patch(change)
        assert rejected.returncode == 1 and "cannot change, but for sagemaker.keepAliveSeconds" in rejected.stderr


def test_explain_reports_what_a_field_is_and_its_default() -> None:
    printed = " ".join(_kubectl("explain", "ftj.spec.training").split())
    assert "learningRate <number> Peak learning rate. Default: 2e-05." in printed
    assert "gradientCheckpointing <boolean> Recompute activations in the backward pass" in printed
    printed = " ".join(_kubectl("explain", "ij.spec.generation.topP").split())
    assert "Sample among the likeliest tokens whose probabilities add up to this. Default: 1.0." in printed


def test_get_prints_a_table_that_reports_how_a_job_is_doing(namespace: str, tmp_path: Path) -> None:
    for kind, status in yaml.safe_load((GOLDEN / "status.yaml").read_text()).items():
        base = next(case.base for case in read_cases("changes.yaml") if case.base["kind"] == kind)
        path = tmp_path / "job.json"
        path.write_text(json.dumps(base))
        _kubectl("apply", "--namespace", namespace, "-f", path)
        patch = ["--subresource=status", "--type=merge", "--patch", json.dumps({"status": status})]
        _kubectl("patch", "--namespace", namespace, "-f", path, *patch)
    printed = _kubectl("get", "--namespace", namespace, "ftj,ij")
    assert re.sub(r"\b\d+s$", "AGE", printed, flags=re.MULTILINE) == (GOLDEN / "table.txt").read_text()
