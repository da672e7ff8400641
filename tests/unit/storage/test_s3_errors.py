"""What a store on the network answers instead of a file, as an error for who wrote its URI; and the one client."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from zerotune_operator.backends.local.output import complete_output
from zerotune_operator.backends.local.remote_files import read_remote
from zerotune_trainer import storage
from zerotune_trainer.config import JobIdentity
from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError
from zerotune_trainer.manifest import MANIFEST_NAME, Manifest, ManifestFile
from zerotune_trainer.storage import s3_client
from zerotune_trainer.storage.s3 import S3Store

pytestmark = pytest.mark.slow


def test_threads_that_start_together_share_one_client(s3_environment: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        clients = set(pool.map(lambda _: id(s3_client.client()), range(8)))
    assert len(clients) == 1


def test_no_such_bucket(s3_environment: str, tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"s3://no-such-bucket/a\.jsonl is not there"):
        storage.read_bytes("s3://no-such-bucket/a.jsonl")
    folder = storage.open_folder("s3://no-such-bucket/out", tmp_path)
    (folder.local / "a").write_text("")
    with pytest.raises(InputMissingError, match="NoSuchBucket"):
        folder.push(["a"])


@pytest.mark.parametrize("uri", ["s3://", "s3://aaa/b.jsonl", "s3://Upper_Case/b.jsonl"])
def test_a_name_that_no_bucket_may_have_is_for_a_person_to_change(s3_environment: str, uri: str) -> None:
    with pytest.raises((ConfigurationError, InputMissingError), match=uri):
        storage.list_files(uri, [])


def test_without_keys_a_public_object_is_read(bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.put_object(Bucket=bucket, Key="a", Body=b"for all", ACL="public-read")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3_client.forget_client()
    assert storage.read_bytes(f"s3://{bucket}/a") == b"for all"


def test_a_store_that_does_not_answer_is_temporary(monkeypatch: pytest.MonkeyPatch, s3_environment: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3_client.forget_client()
    with pytest.raises(TemporaryError, match="s3://bucket/a: the store did not do it") as caught:
        storage.read_bytes("s3://bucket/a")
    assert "AWS_ENDPOINT_URL" in caught.value.hint


def test_results_for_a_store_that_does_not_answer_can_be_sent_again(
    monkeypatch: pytest.MonkeyPatch, s3_environment: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3_client.forget_client()
    folder = storage.open_folder("s3://bucket/out", tmp_path)
    (folder.local / "a").write_text("")
    with pytest.raises(TemporaryError, match="s3://bucket/out: the store did not do it"):
        folder.push(["a"])
    with pytest.raises(TemporaryError, match="s3://bucket/out"):
        folder.children()
    with pytest.raises(TemporaryError, match="s3://bucket/model"):
        storage.local_folder("s3://bucket/model", tmp_path)
    assert (folder.local / "a").exists()


class Denying(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_PUT = do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def denying_store(monkeypatch: pytest.MonkeyPatch, s3_environment: str) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Denying)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    s3_client.forget_client()
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("uri", ["s3://bucket/a.jsonl", "s3://bucket/*.jsonl"])
def test_access_denied_in_a_pod_names_the_secret_and_its_keys(
    denying_store: None, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(ConfigurationError, match="access denied") as caught:
        storage.list_files(uri, [])
    assert uri in caught.value.message
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint and "Secret" in caught.value.hint


@pytest.mark.parametrize(
    ("variable", "remedy"),
    [
        ("TRAINING_JOB_NAME", "let the execution role, backend.sagemaker.roleArn, use it"),
        ("ANY", "let the identity that asks use it, or give this machine credentials of another one"),
    ],
)
def test_access_denied_elsewhere_names_no_secret(
    denying_store: None, monkeypatch: pytest.MonkeyPatch, variable: str, remedy: str
) -> None:
    monkeypatch.setenv(variable, "a")
    with pytest.raises(ConfigurationError, match="access denied") as caught:
        storage.list_files("s3://bucket/a.jsonl", [])
    assert remedy in caught.value.hint
    assert "Secret" not in caught.value.hint


def test_no_credentials_on_this_machine_name_where_they_were_looked_for(
    denying_store: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="Unable to locate credentials") as caught:
        read_remote("s3://bucket/config.json")
    assert caught.value.hint.startswith("give this machine credentials that may use it: they were looked for in")
    assert "AWS_PROFILE" in caught.value.hint
    assert "Secret" not in caught.value.hint


def test_writing_where_it_is_denied_names_the_folder_and_the_remedy(denying_store: None, tmp_path: Path) -> None:
    folder = storage.open_folder("s3://bucket/out", tmp_path)
    (folder.local / "a").write_text("")
    with pytest.raises(ConfigurationError, match="s3://bucket/out: access denied") as caught:
        folder.push(["a"])
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.hint


def test_the_operator_says_of_a_store_what_the_trainer_says(
    denying_store: None, bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=r"s3://bucket/config.json: access denied") as denied:
        read_remote("s3://bucket/config.json")
    assert "AWS_SECRET_ACCESS_KEY" in denied.value.hint
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(TemporaryError, match=r"s3://bucket/config.json: the store did not do it"):
        read_remote("s3://bucket/config.json")
    with pytest.raises(TemporaryError, match=r"s3://bucket/out/manifest.json: the store did not do it"):
        complete_output("s3://bucket/out", "uid", "digest")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    with pytest.raises(InputMissingError, match=rf"s3://{bucket}/none is not there"):
        read_remote(f"s3://{bucket}/none")
    assert complete_output(f"s3://{bucket}/none", "uid", "digest") is None


def test_an_output_on_s3_is_complete_while_all_its_files_are_there(s3_environment: str, bucket: str) -> None:
    job = JobIdentity(kind="FineTuneJob", name="tune", uid="uid", attempt=0)
    file = ManifestFile(path="adapter/model.safetensors", size=7, sha256="0" * 64)
    manifest = Manifest(job=job, config_digest="digest", step=1, files=[file])
    S3Store().exchange(f"{bucket}/out/{MANIFEST_NAME}", manifest.encoded(), None)
    assert complete_output(f"s3://{bucket}/out", "uid", "digest") is None
    S3Store().exchange(f"{bucket}/out/{file.path}", b"weights", None)
    assert complete_output(f"s3://{bucket}/out", "uid", "digest") is not None
