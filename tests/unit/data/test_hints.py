"""What people's tools write into files, and what to do about it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from zerotune_trainer.config.data import Records
from zerotune_trainer.data.records import read_records
from zerotune_trainer.errors import DataError

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("a.jsonl", '{"text": "a"}\r{"text": "b"}\r', "carriage return"),
        ("a.csv", "text,id\ra,1\rb,2\r", "carriage return"),
        ("a.csv", ",text\n0,a\n1,b\n", "index=False"),
        ("a.csv", "text,text\na,b\n", "name every column once"),
        ("a.jsonl", '{"text": "a", "score": NaN}\n', "no NaN"),
        ("a.jsonl", '{"text": "a", "scores": [1, -Infinity]}\n', "no NaN"),
        ("a.jsonl", '{"text": "a NaN"\n', "one JSON object a line"),
        ("a.jsonl", "text\n", "one JSON object a line"),
        ("a.jsonl", '[{"text": "a"}, {"text": "b"}]', "jq -c '.[]'"),
        ("a.jsonl", '{\n "text": "a"\n}\n', "`jq -c` writes it so"),
        ("a.jsonl", gzip.compress(b'{"text": "a"}', mtime=0), "let its name end in .jsonl.gz"),
        ("a.txt", gzip.compress(b"a", mtime=0), "compressed with gzip"),
        ("a.csv", b"PK\x03\x04\xff", "a zip archive"),
        ("a.jsonl", b"PAR1\x15\xff", "a parquet file"),
        ("a.jsonl", LFS_POINTER, "git lfs pull"),
        ("a.parquet", LFS_POINTER, "git lfs pull"),
        ("a.parquet", "<!DOCTYPE html><html>Sign in</html>", "a web page"),
        ("a.parquet", b"PAR1 cut off", "fetch or write the file again"),
        ("a.jsonl", "text".encode("utf-16"), "iconv"),
    ],
)
def test_a_file_as_other_tools_write_it_gets_its_remedy(
    tmp_path: Path, name: str, content: str | bytes, hint: str
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as rejected:
        list(read_records(Records(uris=[f"file://{tmp_path}/{name}"]), tmp_path))
    assert hint in rejected.value.hint
