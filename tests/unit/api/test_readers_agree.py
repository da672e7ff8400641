"""`zerotune validate`, `zerotune plan`, the webhook and reconcile reject the same jobs, with the same messages."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer import Exit

from tests.unit.api.admission_cases import Case, PlanCase, read_cases
from zerotune_operator.api.cel import broken_rules
from zerotune_operator.api.load import parse_job, read_job
from zerotune_operator.api.origins import origins_of
from zerotune_operator.api.support import BACKENDS, UNSUPPORTED, unsupported
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.hub import Hub
from zerotune_operator.backends.kubernetes.backend import KubernetesBackend
from zerotune_operator.backends.kubernetes.cache import Cache
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.installation import UNKNOWN_INSTALLATION
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.model_shape import shape_of_file
from zerotune_operator.backends.registry import Target
from zerotune_operator.cli import plan, validate
from zerotune_operator.cli.run import run_job
from zerotune_operator.controller.webhook import review
from zerotune_trainer.errors import ConfigurationError

pytestmark = pytest.mark.slow

MODELS = Path(__file__).parents[2] / "golden" / "plan" / "models"
Manifest = dict[str, Any]


class Readers:
    """The four, each a function from a manifest to its message; nothing where the job is accepted."""

    def __init__(self, model: str, backend: Target, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._config, self._backend, self._folder, self._capsys = MODELS / f"{model}.json", backend, folder, capsys
        self._shape = shape_of_file(self._config)

    def verdicts(self, manifest: Manifest, *, run: bool = True) -> dict[str, str]:
        """What each says; `run`: whether `zerotune run` is asked too, which starts what it accepts."""
        readers = [self.validate, self.plan]
        # The webhook and `zerotune run` take a job for SageMaker as what it is, whatever backend they are asked about.
        is_elsewhere = "sagemaker" in manifest["spec"].get("backend", {})
        if self._backend is Target.KUBERNETES:
            readers += [self.reconcile] if is_elsewhere else [self.webhook, self.reconcile]
        elif run and self._backend is Target.LOCAL and not is_elsewhere:
            readers.append(self.run)
        return {reader.__name__: reader(manifest) for reader in readers}

    def validate(self, manifest: Manifest) -> str:
        return self._printed(lambda: validate.command([self._file(manifest)], self._backend))

    def plan(self, manifest: Manifest) -> str:
        return self._printed(
            lambda: plan.command(self._file(manifest), backend=self._backend, model_config=self._config)
        )

    def webhook(self, manifest: Manifest) -> str:
        known = manifest | {"status": {"model": self._shape.model_dump(by_alias=True)}}
        asked = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        answer = asyncio.run(review(asked | {"request": {"uid": "r", "object": known}}, Hub(), UNKNOWN_INSTALLATION))[
            "response"
        ]
        assert answer["allowed"] or (answer["status"]["code"], answer["status"]["reason"]) == (422, "Invalid")
        return "" if answer["allowed"] else answer["status"]["message"]

    def reconcile(self, manifest: Manifest) -> str:
        cluster = SimpleNamespace(cache=Cache(), installation=UNKNOWN_INSTALLATION)

        def begin() -> None:
            job = read_job(manifest)
            backend = KubernetesBackend(job, cast(Cluster, cluster))
            backend.render(backend.plan(Inputs(str(job.spec.model.uri), self._shape, {}), 0))

        return self._printed(begin)

    def run(self, manifest: Manifest) -> str:
        return self._printed(lambda: run_job(parse_job(manifest), Home(self._folder / "home"), fresh=False))

    def _file(self, manifest: Manifest) -> Path:
        path = self._folder / "job.json"
        path.write_text(json.dumps(manifest))
        return path

    def _printed(self, read: Callable[[], object]) -> str:
        self._capsys.readouterr()
        try:
            read()
        except Exit as ended:
            assert ended.exit_code == ConfigurationError.exit_code
            return self._capsys.readouterr().err
        except ConfigurationError as error:
            return f"{error.message}: {error.hint}"
        return ""


def with_inputs(manifest: Manifest) -> Manifest:
    """The manifest with inputs that are there: the output of another job is for reconcile to wait for."""
    manifest = copy.deepcopy(manifest)
    spec = manifest["spec"]
    for origin in origins_of(spec):
        *above, last = origin.part.split(".")
        part = spec
        for name in above:
            part = part[name]
        others = {name: value for name, value in part[last].items() if name != origin.field}
        part[last] = {"uri": "s3://models/base"} if origin.is_model else others | {"uris": ["s3://answers/all"]}
    return manifest


def test_what_is_accepted_is_accepted_by_all(
    valid_case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readers = Readers("tiny-llama", Target(valid_case.backend), tmp_path, capsys)
    verdicts = readers.verdicts(with_inputs(valid_case.manifest), run=False)

    assert verdicts == dict.fromkeys(verdicts, "")


def test_what_a_backend_does_not_support_is_rejected_by_all(
    unsupported_case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readers = Readers("tiny-llama", Target(unsupported_case.backend), tmp_path, capsys)

    manifest = unsupported_case.manifest
    named = "checkpoint" in manifest["spec"]["model"]  # It belongs to the job that is named there.
    for rejection in readers.verdicts(manifest if named else with_inputs(manifest)).values():
        for place, piece in unsupported_case.complaints:
            assert f"{place} is " in rejection
            assert piece in rejection


def test_what_cannot_be_planned_is_rejected_by_all(
    plan_case: PlanCase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readers = Readers(plan_case.model, Target.KUBERNETES, tmp_path, capsys)
    verdicts = readers.verdicts(with_inputs(plan_case.manifest))
    if plan_case.needs_model:
        assert verdicts.pop("validate") == ""

    for rejection in verdicts.values():
        assert plan_case.message in rejection
        assert plan_case.hint in rejection


def test_every_line_of_the_table_has_a_case() -> None:
    cases = read_cases("unsupported.yaml")
    tried = {
        (case.manifest["kind"], line.field, line.backends)
        for case in cases
        for line in unsupported(case.manifest["kind"], spec_of(case), case.backend)
    }
    # What no backend supports is a rule of the CRD, and has its cases in invalid.yaml.
    table = {(kind, line.field, line.backends) for kind, lines in UNSUPPORTED.items() for line in lines}
    assert {line for line in table - tried if line[2] != BACKENDS} == set()


def test_the_table_says_what_its_cel_says(unsupported_case: Case) -> None:
    kind, spec = unsupported_case.manifest["kind"], spec_of(unsupported_case)
    for line in UNSUPPORTED[kind]:
        assert line.is_used_by(spec) == bool(list(broken_rules([line.rule], spec))), line


def spec_of(case: Case) -> Manifest:
    """A spec with its defaults; not held to the rules."""
    return read_job(case.manifest).spec.model_dump(mode="json", by_alias=True, exclude_none=True)
