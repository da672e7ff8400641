"""Files in, jobs out; or all that is wrong with them, with lines."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from zerotune_operator.api.jobs import FineTuneJob, InferenceJob
from zerotune_operator.api.load import InvalidManifestError, load_documents, load_jobs, parse_job, read_job
from zerotune_operator.api.manifest_yaml import read_documents
from zerotune_trainer.errors import ConfigurationError, InputMissingError

EXAMPLES = Path(__file__).parents[3] / "crds" / "examples"
TRAINING = """\
apiVersion: zerotune.dev/v1alpha1
kind: FineTuneJob
metadata:
  name: weaknesses
spec:
  method: cpt
  model: {uri: file:///models/small}
  data:
    train:
      uris: [file:///data/*.txt]
  training:
    learningRate: 2e-5
"""

INFERENCE = """\
apiVersion: zerotune.dev/v1alpha1
kind: InferenceJob
metadata: {name: triage}
spec:
  model: {fromFineTuneJob: weaknesses}
  data: {uris: [file:///data/alerts.jsonl]}
"""

SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: hub}\n"


def _file(folder: Path, *documents: str) -> Path:
    path = folder / "jobs.yaml"
    path.write_text("---\n".join(documents))
    return path


def test_several_documents_in_order(tmp_path: Path) -> None:
    first, second = load_jobs(_file(tmp_path, TRAINING, "# nothing\n", INFERENCE))
    assert isinstance(first, FineTuneJob)
    assert first.spec.training.learning_rate == 2e-5
    assert isinstance(second, InferenceJob)
    assert second.spec.model.from_fine_tune_job == "weaknesses"


def test_documents_of_other_groups_are_left_alone(tmp_path: Path) -> None:
    path = _file(tmp_path, SECRET, TRAINING)
    assert [job.metadata.name for job in load_jobs(path)] == ["weaknesses"]
    assert load_documents(path)[0] == {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub"}}


def test_the_items_of_a_list_are_read_with_their_lines(tmp_path: Path) -> None:
    items = "".join(f"- {line}" if not index else f"  {line}" for index, line in enumerate(TRAINING.splitlines(True)))
    path = _file(tmp_path, f"apiVersion: v1\nkind: List\nitems:\n{items}")
    assert [job.metadata.name for job in load_jobs(path)] == ["weaknesses"]

    path.write_text(path.read_text().replace("method: cpt", "method: cpd"))
    with pytest.raises(InvalidManifestError, match=r"jobs.yaml:9: spec.method is 'cpd'"):
        load_jobs(path)


def test_a_generated_name_is_for_kubectl_create(tmp_path: Path) -> None:
    path = _file(tmp_path, TRAINING.replace("name: weaknesses", "generateName: weaknesses-"))
    with pytest.raises(InvalidManifestError, match=r"metadata.name is missing: generateName is for `kubectl create`"):
        load_jobs(path)


def test_everything_wrong_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    broken = TRAINING.replace("method: cpt", "method: cpd").replace("learningRate: 2e-5", "learningRat: 2e-5")
    path = _file(tmp_path, broken, INFERENCE.replace("data: {uris", "data: {urls"))
    with pytest.raises(InvalidManifestError) as caught:
        load_jobs(path)
    assert caught.value.message.splitlines() == [
        f"{path}:6: spec.method is 'cpd' (text), must be one of cpt, sft, dpo, orpo, kto, script; did you mean cpt?",
        f"{path}:12: spec.training.learningRat is not a field of spec.training: did you mean learningRate?",
        f"{path}:19: spec.data.urls is not a field of spec.data: did you mean uris?",
    ]


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("", "holds no FineTuneJob and no InferenceJob"),
        (SECRET, "holds no FineTuneJob and no InferenceJob"),
        ("just text", ":1: a manifest is a group of fields"),
        ("- a\n- b\n", ":1: a manifest is a group of fields"),
        ("kind: FineTuneJob\nkind: InferenceJob\n", ":2: kind is given twice, first in line 1"),
        ("a: [1\nb: 2\n", "this is not YAML"),
        (TRAINING.replace("FineTuneJob", "FinetuneJob"), ":2: kind is 'FinetuneJob': did you mean FineTuneJob?"),
        (TRAINING.replace("kind: FineTuneJob\n", ""), "kind is missing: zerotune.dev/v1alpha1 has"),
        (TRAINING.replace("v1alpha1", "v1"), ":1: apiVersion is 'zerotune.dev/v1' (text), must be one of"),
        (TRAINING.replace("zerotune.dev", "zerotun.dev"), "must be one of zerotune.dev/v1alpha1; did you mean"),
        (TRAINING.replace("metadata:\n  name: weaknesses\n", ""), "metadata is missing"),
    ],
)
def test_what_is_no_job(text: str, piece: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidManifestError) as caught:
        load_jobs(_file(tmp_path, text))
    assert piece in caught.value.message
    assert caught.value.exit_code == 64


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="is not there"):
        load_jobs(tmp_path / "none.yaml")


def test_a_folder_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a folder"):
        load_jobs(tmp_path)


def test_a_pipe_and_a_device_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ConfigurationError, match="is no file, but a pipe, device or socket"):
            load_jobs(path)


def test_a_file_that_is_far_too_large_is_not_parsed(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has more than 4 MiB, the most that a manifest may have"):
        load_jobs(_file(tmp_path, "# " + "x" * (5 << 20) + "\n", TRAINING))


def test_a_manifest_comes_by_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TRAINING.encode())))
    assert [job.metadata.name for job in load_jobs(Path("-"))] == ["weaknesses"]


def test_the_same_job_twice_in_a_file_is_rejected(tmp_path: Path) -> None:
    elsewhere = TRAINING.replace("name: weaknesses", "name: weaknesses\n  namespace: other")
    asked = INFERENCE.replace("triage", "weaknesses")
    assert len(load_jobs(_file(tmp_path, TRAINING, elsewhere, asked))) == 3
    with pytest.raises(InvalidManifestError) as caught:
        load_jobs(_file(tmp_path, TRAINING, elsewhere, asked, TRAINING.replace("cpt", "sft")))
    assert str(caught.value.problems[0]) == (
        "metadata.name is 'weaknesses', and so is that of a FineTuneJob in line 4: give one of them another"
    )
    assert (len(caught.value.problems), caught.value.problems[0].line) == (1, 38)


@pytest.mark.parametrize("namespace", ["../x", "Team", "a.b", "-a", "a" * 64, ""])
def test_a_namespace_that_no_cluster_has_is_rejected(tmp_path: Path, namespace: str) -> None:
    written = TRAINING.replace("name: weaknesses", f"name: weaknesses\n  namespace: '{namespace}'")
    with pytest.raises(InvalidManifestError, match=r"metadata.namespace is .* a DNS label"):
        load_jobs(_file(tmp_path, written))


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: Z\xfcrich".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="is not UTF-8: byte 7"):
        load_jobs(path)


def test_a_resource_as_the_api_server_hands_it_out() -> None:
    job = parse_job(
        {
            "apiVersion": "zerotune.dev/v1alpha1",
            "kind": "InferenceJob",
            "metadata": {"name": "triage", "namespace": "soc", "uid": "1-2", "generation": 3, "managedFields": []},
            "spec": {"model": {"uri": "hf://a/b"}, "data": {"uris": ["s3://aaa/b"]}},
            "status": {"phase": "Running"},
        }
    )
    assert (job.metadata.namespace, job.metadata.uid) == ("soc", "1-2")


def test_what_the_api_server_has_accepted_is_read_as_it_is() -> None:
    resource = resource_of("cpt") | {"status": {"phase": "Running"}}

    assert read_job(resource) == parse_job(resource)


def test_a_resource_of_another_version_of_the_schema_is_reported_field_by_field() -> None:
    resource = resource_of("cpt")
    resource["spec"] |= {"methods": "cpt", "training": {"maxSteps": "many"}}

    with pytest.raises(InvalidManifestError) as caught:
        read_job(resource)
    assert {".".join(map(str, problem.path)) for problem in caught.value.problems} == {
        "spec.methods",
        "spec.training.maxSteps",
    }


def resource_of(example: str) -> dict[str, Any]:
    """An example as the API server stores it."""
    (document,) = read_documents((EXAMPLES / f"{example}.yaml").read_text())
    value: dict[str, Any] = document.value
    return value
