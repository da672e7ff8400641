"""Records that are read from S3."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest

from zerotune_trainer import storage
from zerotune_trainer.config.data import Records
from zerotune_trainer.data.cache import content_key
from zerotune_trainer.data.files import resolve
from zerotune_trainer.data.records import read_files, read_records
from zerotune_trainer.errors import DataError, TemporaryError
from zerotune_trainer.storage import Folder, s3_client

pytestmark = pytest.mark.slow

ROWS = [{"text": f"weakness {number}"} for number in range(600)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def write_jsonl(folder: Path) -> None:
    (folder / "a.jsonl").write_text(LINES)


def write_gz(folder: Path) -> None:
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(LINES.encode()))


def write_csv(folder: Path) -> None:
    (folder / "a.csv").write_text("text\n" + "".join(row["text"] + "\n" for row in ROWS))


def write_parquet(folder: Path) -> None:
    pa.parquet.write_table(pa.Table.from_pylist(ROWS), folder / "a.parquet")


def write_datasets(folder: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(str(folder))


@pytest.fixture
def folder(bucket: str, tmp_path: Path) -> Folder:
    return storage.open_folder(f"s3://{bucket}/data", tmp_path / "made")


@pytest.mark.parametrize("write", [write_jsonl, write_gz, write_csv, write_parquet, write_datasets])
def test_every_format_is_read_from_s3(folder: Folder, cache: Path, write: Callable[[Path], None]) -> None:
    write(folder.local)
    folder.push([path.name for path in folder.local.iterdir()])
    records = list(read_records(Records(uris=[folder.uri]), cache))
    assert [record.values for record in records] == ROWS


def test_a_broken_line_is_named_with_its_uri(folder: Folder, cache: Path) -> None:
    (folder.local / "a.jsonl").write_text('{"text": "one"}\n{"text"\n')
    folder.push(["a.jsonl"])
    with pytest.raises(DataError, match=rf"{folder.uri}/a.jsonl:2: not JSON"):
        list(read_records(Records(uris=[folder.uri]), cache))


def test_what_is_cached_follows_the_etag(folder: Folder, cache: Path) -> None:
    def key() -> str:
        return content_key(resolve(Records(uris=[f"{folder.uri}/*.jsonl"]), cache), cache)

    write_jsonl(folder.local)
    folder.push(["a.jsonl"])
    first = key()
    assert key() == first
    (folder.local / "a.jsonl").write_text(LINES.replace("weakness 7", "weaknes 77"))
    folder.push(["a.jsonl"])
    assert key() != first


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_store_that_goes_away_is_temporary_not_bad_data(
    folder: Folder, cache: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(folder.local)
    write_parquet(folder.local)
    folder.push(["a.jsonl", "a.parquet"])
    files = resolve(Records(uris=[f"{folder.uri}/{name}"]), cache)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3_client.forget_client()
    with pytest.raises(TemporaryError, match="the store did not do it"):
        list(read_files(files))
