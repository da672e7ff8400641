"""Answers of the API server as errors: by code, reason and causes, and not by texts that names may have in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from zerotune_operator.backends.kubernetes.api_errors import (
    ApiError,
    ConflictError,
    DeniedError,
    ForbiddenError,
    InvalidError,
    MissingError,
    QuotaError,
    UnavailableError,
    UnknownAnswerError,
    api_error,
)
from zerotune_trainer.errors import ConfigurationError, TemporaryError, ZerotuneError

JOB = 'jobs.batch "tune" is forbidden'
POLICY = "ValidatingAdmissionPolicy 'labels' with binding 'labels' denied request: set the label team"
FIELD = {"reason": "FieldValueInvalid", "message": "must be positive", "field": "spec.parallelism"}


def error(code: int, reason: str, message: str, *causes: dict[str, str]) -> ZerotuneError:
    status = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": {"causes": list(causes)}}
    return api_error(code, "POST /apis/batch/v1/namespaces/n/jobs", json.dumps(status).encode())


@pytest.mark.parametrize(
    ("answer", "kind", "hint"),
    [
        ((404, "NotFound", 'namespaces "n" not found'), MissingError, "namespace"),
        ((409, "AlreadyExists", "it is there"), ConflictError, ""),
        ((401, "Unauthorized", "Unauthorized"), ForbiddenError, "service account"),
        ((403, "Forbidden", f'{JOB}: User "system:serviceaccount:quota-team:op" cannot create resource "jobs"'),
         ForbiddenError, "the chart's roles"),
        ((403, "Forbidden", f"{JOB}: exceeded quota: gpus, requested: requests.cpu=9"), QuotaError, "quota"),
        ((403, "Forbidden", f"{JOB}: unable to create new content in namespace quota because it is being terminated",
          {"reason": "NamespaceTerminating", "field": "metadata.namespace"}), DeniedError, "is being deleted"),
        ((403, "Forbidden", f"{JOB}: {POLICY}", {"message": POLICY}), DeniedError, "policy or webhook"),
        ((422, "Invalid", f"{JOB}: {POLICY}", {"message": POLICY}), DeniedError, "policy or webhook"),
        ((400, "", 'admission webhook "w.example.com" denied the request: no'), DeniedError, "policy or webhook"),
        ((422, "Invalid", "spec.parallelism: Invalid value", FIELD), InvalidError, "backend.kubernetes.pod"),
        ((400, "BadRequest", 'strict decoding error: unknown field "spec.x"'), InvalidError, "backend.kubernetes.pod"),
        ((503, "ServiceUnavailable", "etcd is away"), UnavailableError, "asked again"),
        ((500, "InternalError", 'Internal error occurred: failed calling webhook "a.b": no', {"message": "no"}),
         UnavailableError, "webhook"),
        ((403, "Forbidden", f'{JOB}: admission webhook "quota-team" denied the request: exceeded quota: none'),
         DeniedError, "backend.kubernetes.metadata"),
        ((418, "Teapot", "no"), UnknownAnswerError, ""),
    ],
)  # fmt: skip
def test_an_error_is_classified_by_code_reason_and_causes(answer: Any, kind: type[ZerotuneError], hint: str) -> None:
    found = error(*answer)
    assert type(found) is kind
    assert isinstance(found, ApiError)
    assert (found.status, found.reason, len(found.causes)) == (answer[0], answer[1], len(answer) - 3)
    assert hint in found.hint
    assert answer[2] in found.message


def test_the_same_policy_has_the_same_end_whatever_its_code() -> None:
    ends = {
        type(error(code, reason, POLICY, {"message": POLICY}))
        for code, reason in ((403, "Forbidden"), (422, "Invalid"))
    }
    assert ends == {DeniedError}
    assert error(422, "Invalid", POLICY, {"message": POLICY}).failure_class == "Forbidden"


def test_what_may_pass_is_tried_again_and_a_wrong_field_is_not() -> None:
    assert all(
        issubclass(kind, TemporaryError) for kind in (MissingError, ConflictError, DeniedError, UnavailableError)
    )
    assert issubclass(InvalidError, ConfigurationError)


@pytest.mark.parametrize("content", [b"", b"[1]", b"<html>", b"\xff", b'{"details": null}'])
def test_an_answer_that_is_no_status_is_an_error_all_the_same(content: bytes) -> None:
    found = api_error(502, "GET /x", content)
    assert isinstance(found, UnavailableError)
    assert found.message.startswith("GET /x: 502")
