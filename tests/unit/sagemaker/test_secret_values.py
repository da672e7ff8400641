"""What is taken for a secret by its name or form, and what is not."""

from __future__ import annotations

import base64
import hashlib
import random
import string
import uuid

import pytest

from zerotune_operator.backends.sagemaker.secret_values import PATTERNS, is_name_of_secret, secret_in

_SECRET_ACCESS_KEY = "a secret access key of AWS"
SECRETS = [
    ("a URL with a password", "https://user:pass@host/x"),
    ("an access key of AWS", f"id AKIA{'A' * 16}"),
    ("an access key of AWS", f"ASIA{'B2' * 8}"),
    (_SECRET_ACCESS_KEY, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    (_SECRET_ACCESS_KEY, f"AKIA{'A' * 16}:je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY"),
    ("a token of Hugging Face", f"hf_{'a' * 34}"),
    ("a token of Hugging Face", f"api_org_{'a' * 34}"),
    ("a token of GitHub", f"ghp_{'a' * 36}"),
    ("a token of GitHub", f"github_pat_{'a' * 22}_{'b' * 59}"),
    ("a token of GitLab", f"glpat-{'a' * 20}"),
    ("a token of Slack", f"xoxb-{'1' * 12}-{'2' * 12}-{'a' * 24}"),
    ("a token of Slack", f"xoxp-{'1' * 12}-{'2' * 12}-{'a' * 24}"),
    ("a token of Slack", "https://hooks.slack.com/services/T0/B0/x"),
    ("a token of Docker", f"dckr_pat_{'a' * 27}"),
    ("a key of OpenAI or Anthropic", f"sk-{'a' * 48}"),
    ("a key of OpenAI or Anthropic", f"sk-proj-{'a' * 40}"),
    ("a key of OpenAI or Anthropic", f"sk-ant-api03-{'a' * 90}"),
    ("a key of Google", f"AIza{'a' * 35}"),
    ("a private key", "-----BEGIN PRIVATE KEY-----"),
    ("a private key", "-----BEGIN RSA PRIVATE KEY----- MIIE"),
    ("a JSON Web Token", f"Bearer eyJ{'a' * 30}.eyJ{'b' * 30}.{'c' * 40}"),
]
DIGEST = hashlib.sha256(b"zerotune").digest()
ORDINARY = [
    hashlib.sha1(b"zerotune").hexdigest(),
    hashlib.sha1(b"zerotune").hexdigest().upper(),
    DIGEST.hex(),
    base64.b64encode(DIGEST).decode(),
    f"sha256:{DIGEST.hex()}",
    str(uuid.UUID(bytes=DIGEST[:16])),
    "123456789012.dkr.ecr.eu-west-1.amazonaws.com/zerotune/trainer:0.1.0",
    "s3://bucket/Team/Run7/ModelsOfJanuary/checkpoints/step/500",
    "s3://bbb/a:b",
    "/opt/ml/input/data/Corpus2/PartsOfJanuary/x",
    "arn:aws:iam::123456789012:role/service-role/AmazonSageMaker-ExecutionRole-20260101T000000",
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "SupercalifragilisticExpialidociousModel42",
    "sk-learn-baseline-of-the-second-quarter",
    "task-force",
    "eyJ.a.b",
    "-----BEGIN CERTIFICATE-----",
    "loss: '?([0-9.]+)",
]


@pytest.mark.parametrize(("kind", "value"), SECRETS)
def test_a_secret_is_known_by_its_form(kind: str, value: str) -> None:
    assert secret_in(value) == kind


def test_every_form_has_an_example() -> None:
    assert {kind for kind, _ in SECRETS} == {*PATTERNS, _SECRET_ACCESS_KEY}


@pytest.mark.parametrize("value", ORDINARY)
def test_an_ordinary_value_is_taken_for_no_secret(value: str) -> None:
    assert secret_in(value) is None


def test_nearly_every_secret_access_key_is_known() -> None:
    chance, letters = random.Random(0), string.ascii_letters + string.digits + "/+"
    keys = ["".join(chance.choices(letters, k=40)) for _ in range(1000)]
    assert sum(secret_in(key) is not None for key in keys) > 990


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "OPENAI_API_KEY", "APIKEY", "MY_SECRET_ACCESS_KEY", "secretAccessKey", "AWS_ACCESS_KEY_ID", "PASSWD"],
)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert is_name_of_secret(name)


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "AWS_WEB_IDENTITY_TOKEN_FILE", "NCCL_DEBUG", "KEY", "SORT_KEYS", "team"]
)
def test_an_ordinary_name_is_taken_for_no_secret(name: str) -> None:
    assert not is_name_of_secret(name)
