"""What AWS answers where it does not do what it was asked for, and what is done about it."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
    ReadTimeoutError,
)

from zerotune_operator.backends.sagemaker.advice import CLUSTER, COMMAND_LINE
from zerotune_operator.backends.sagemaker.client import SageMakerClient
from zerotune_operator.backends.sagemaker.errors import (
    NameInUseError,
    NotFoundError,
    QuotaExceededError,
    aws_errors,
)
from zerotune_operator.backends.sagemaker.on_cluster import _training_jobs
from zerotune_trainer.errors import ConfigurationError, TemporaryError, ZerotuneError


def raised(error: Exception) -> ZerotuneError:
    with pytest.raises(ZerotuneError) as caught, aws_errors("training job t"):
        raise error
    return caught.value


def answered(code: str, message: str, status: int) -> ZerotuneError:
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return raised(ClientError(answer, "Call"))


@pytest.mark.parametrize(
    ("code", "message", "status", "kind", "remedy"),
    [
        ("ThrottlingException", "Rate exceeded", 400, TemporaryError, "fewer requests for a while"),
        ("SlowDown", "Please reduce your request rate", 503, TemporaryError, "fewer requests for a while"),
        ("ResourceLimitExceeded", "account-level limit is 0", 400, QuotaExceededError, "Service Quotas"),
        ("ResourceInUse", "must be unique", 400, NameInUseError, "observed again"),
        ("ValidationException", "Requested resource not found.", 400, NotFoundError, "see whether it was deleted"),
        ("ResourceNotFound", "no such job", 400, NotFoundError, "see whether it was deleted"),
        ("NoSuchKey", "no such key", 404, NotFoundError, "see whether it was deleted"),
        ("NoSuchBucket", "does not exist", 404, NotFoundError, "make the bucket"),
        ("ValidationException", "1 validation error detected", 400, ConfigurationError, "correct what AWS names"),
        ("AccessDeniedException", "is not authorized", 400, ConfigurationError, "docs/sagemaker-policy.json"),
        ("AccessDenied", "Access Denied", 403, ConfigurationError, "docs/sagemaker-policy.json"),
        ("ExpiredTokenException", "token is expired", 400, TemporaryError, "aws sso login"),
        ("InternalFailure", "of AWS", 500, TemporaryError, "a problem of its own"),
        ("RequestTimeTooSkewed", "time is too large", 403, TemporaryError, "set the clock of this machine"),
        ("RequestExpired", "Request has expired", 400, TemporaryError, "set the clock of this machine"),
        ("InvalidSignatureException", "Signature expired: 2026", 400, TemporaryError, "set the clock of this machine"),
        ("InvalidSignatureException", "Signature not yet current: 2026", 400, TemporaryError, "set the clock"),
        ("InvalidSignatureException", "does not match", 400, ConfigurationError, "the secret key"),
        ("SignatureDoesNotMatch", "does not match", 403, ConfigurationError, "the secret key of the AWS credentials"),
        ("UnrecognizedClientException", "token is invalid", 400, ConfigurationError, "correct the access key"),
        ("InvalidClientTokenId", "token is invalid", 403, ConfigurationError, "correct the access key"),
        ("InvalidAccessKeyId", "does not exist", 403, ConfigurationError, "correct the access key"),
    ],
)
def test_what_aws_answers_has_a_meaning_and_a_remedy(
    code: str, message: str, status: int, kind: type[ZerotuneError], remedy: str
) -> None:
    error = answered(code, message, status)
    assert type(error) is kind
    assert error.message == f"training job t: {message} ({code})"
    assert remedy in error.hint


def test_who_may_not_read_a_bucket_is_told_the_rights_of_s3() -> None:
    denied: Any = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    with pytest.raises(ConfigurationError) as caught, aws_errors("s3://bbb/file"):
        raise ClientError(denied, "GetObject")
    assert "s3:GetObject and s3:PutObject of it, and s3:ListBucket" in caught.value.hint


@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        (ConnectTimeoutError(endpoint_url="aws"), TemporaryError, "its endpoint can be reached"),
        (ReadTimeoutError(endpoint_url="aws"), TemporaryError, "its endpoint can be reached"),
        (EndpointConnectionError(endpoint_url="aws"), TemporaryError, "see that the region is the one you mean"),
        (NoCredentialsError(), ConfigurationError, "run `aws configure` or `aws sso login`, or set AWS_PROFILE, or"),
        (NoCredentialsError(), ConfigurationError, "AWS_SECRET_ACCESS_KEY: they were looked for in the environment"),
        (ProfileNotFound(profile="p"), ConfigurationError, "set AWS_PROFILE to one that `aws configure list-profiles`"),
        (NoRegionError(), ConfigurationError, "AWS_REGION"),
    ],
)
def test_no_answer_and_no_credentials_have_a_remedy(error: Exception, kind: type[ZerotuneError], remedy: str) -> None:
    found = raised(error)
    assert type(found) is kind
    assert remedy in found.hint


@pytest.mark.parametrize(
    "error",
    [
        NoCredentialsError(),
        ProfileNotFound(profile="p"),
        NoRegionError(),
        *(
            ClientError({"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "Call")
            for code in ("ExpiredTokenException", "RequestTimeTooSkewed", "InvalidSignatureException")
        ),
    ],
    ids=str,
)
def test_each_reader_gets_the_remedy_of_the_place_where_zerotune_runs(error: Exception) -> None:
    """At the command line nobody has a ServiceAccount, and on a cluster nobody can run `aws sso login`."""
    with pytest.raises(ZerotuneError) as here, aws_errors("training job t", COMMAND_LINE):
        raise error
    with pytest.raises(ZerotuneError) as there, aws_errors("training job t", CLUSTER):
        raise error
    assert not any(word in here.value.hint for word in ("operator", "cluster", "ServiceAccount", "chart"))
    assert any(word in there.value.hint for word in ("operator", "chart"))
    assert not any(word in there.value.hint for word in ("`aws ", "this machine", "~/.aws"))


@pytest.mark.parametrize(
    "error",
    [
        ConnectTimeoutError(endpoint_url="aws"),
        *(
            ClientError({"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 500}}, "Call")
            for code in ("ThrottlingException", "InternalFailure", "RequestTimeTooSkewed")
        ),
    ],
    ids=str,
)
def test_only_the_operator_says_that_it_is_tried_again_as_one_command_is_not(error: Exception) -> None:
    """`zerotune run`, which tries it again, says when."""
    with pytest.raises(TemporaryError) as here, aws_errors("training job t", COMMAND_LINE):
        raise error
    with pytest.raises(TemporaryError) as there, aws_errors("training job t", CLUSTER):
        raise error
    assert "tried again" not in here.value.hint
    assert "it is tried again" in there.value.hint


def test_what_the_operator_asks_of_aws_has_the_remedies_of_a_cluster() -> None:
    assert _training_jobs("eu-west-9").client.advice is CLUSTER
    assert SageMakerClient("eu-west-9").advice is COMMAND_LINE
