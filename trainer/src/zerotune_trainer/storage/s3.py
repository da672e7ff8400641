"""S3 as a store, over boto3."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.storage.s3_client import TRIES, client
from zerotune_trainer.storage.s3_errors import MISSING, code_of, s3_errors, status_of
from zerotune_trainer.storage.stores import Store, StoredFile

_CONFLICTS = {409, 412}
"""The object is not in the state that a conditional request asks for, or another such request was under way."""

_NOT_IMPLEMENTED = 501

_TRANSFER = TransferConfig(max_concurrency=4)
"""Parts of one file that are sent or fetched at once; several files are as well."""

_CUT_OFF = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)


class S3Store(Store):
    """Objects of S3; a path is `BUCKET/KEY`. What its methods raise is what `s3_errors` says."""

    def find(self, path: str) -> StoredFile | None:
        """See Store."""
        bucket, key = _split(path)
        if not key:
            return None
        with s3_errors(f"s3://{path}"):
            try:
                found = client().head_object(Bucket=bucket, Key=key)
            except ClientError as error:
                if status_of(error) != MISSING:
                    raise
                return None
        return StoredFile(f"s3://{path}", found["ContentLength"], found["ETag"])

    def is_folder(self, path: str) -> bool:
        """See Store. A folder is a beginning that keys have in common."""
        bucket, key = _split(path)
        with s3_errors(f"s3://{path}"):
            found = client().list_objects_v2(Bucket=bucket, Prefix=_prefix(key), MaxKeys=1)
        return "Contents" in found

    def files(self, folder: str, wanted: Callable[[str], bool], *, deep: bool) -> list[StoredFile]:
        """See Store. What ends in a slash is no file: consoles make such objects to show a folder."""
        bucket = _split(folder)[0]
        objects = (item for page in self._pages(folder, deep) for item in page.get("Contents", ()))
        return [
            StoredFile(f"s3://{bucket}/{item['Key']}", item["Size"], item["ETag"])
            for item in objects
            if not item["Key"].endswith("/") and wanted(f"{bucket}/{item['Key']}")
        ]

    def names(self, folder: str) -> list[str]:
        """The names of files and folders directly below a folder, sorted."""
        pages = list(self._pages(folder, deep=False))
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        folders = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ())]
        beginning = _prefix(_split(folder)[1])
        return sorted({key.removeprefix(beginning).rstrip("/") for key in [*keys, *folders]} - {""})

    def open(self, path: str) -> io.RawIOBase:
        """See Store."""
        return _Object(path)

    def open_native(self, path: str) -> Any:
        """See Store."""
        return _Object(path)

    def read(self, path: str) -> tuple[bytes, str] | None:
        """The content of a small object and its ETag; None where there is none."""
        bucket, key = _split(path)
        with s3_errors(f"s3://{path}"):
            try:
                answer = client().get_object(Bucket=bucket, Key=key)
                return answer["Body"].read(), answer["ETag"]
            except ClientError as error:
                # Not every gateway before a store says what it is that is missing.
                if status_of(error) != MISSING or code_of(error) == "NoSuchBucket":
                    raise
                return None

    def exchange(self, path: str, content: bytes, expected: str | None) -> bool:
        """Write an object where it still has the ETag `expected`, or is absent still where that is None.

        Returns:
            Whether it was written; False where somebody else was faster.

        Raises:
            ConfigurationError: also where the store has no conditional writes.
        """
        bucket, key = _split(path)
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        with s3_errors(f"s3://{path}"):
            try:
                client().put_object(Bucket=bucket, Key=key, Body=content, **condition)
            except ClientError as error:
                status = status_of(error)
                if status in _CONFLICTS or (status == MISSING and error.response["Error"]["Code"] == "NoSuchKey"):
                    return False
                if status == _NOT_IMPLEMENTED:
                    raise ConfigurationError(
                        f"s3://{path}: the store has no conditional writes (If-Match, If-None-Match): {error}",
                        "use a store that has them, so that two jobs cannot write one folder",
                    ) from error
                raise
        return True

    def send(self, source: Path, path: str) -> None:
        """Write an object, in parts where it is large. The caller explains errors."""
        bucket, key = _split(path)
        with source.open("rb") as file:
            client().upload_fileobj(file, bucket, key, Config=_TRANSFER)

    def fetch(self, path: str, target: Path) -> None:
        """Write an object to a file of this machine, whose folder is made. The caller explains errors.

        Raises:
            ConfigurationError: the key is none that may become a path.
        """
        bucket, key = _split(path)
        if ".." in key.split("/"):
            raise ConfigurationError(f"s3://{path} has '..' in its key", "give the object another key")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            client().download_fileobj(bucket, key, file, Config=_TRANSFER)

    def remove(self, path: str) -> None:
        """Remove an object, and all that lie below it; one that is not there is no error."""
        bucket, key = _split(path)
        with s3_errors(f"s3://{path}"):
            client().delete_object(Bucket=bucket, Key=key)
            for page in self._pages(path, deep=True):
                if keys := [{"Key": item["Key"]} for item in page.get("Contents", ())]:
                    client().delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})

    def _pages(self, folder: str, deep: bool) -> Iterator[dict[str, Any]]:
        bucket, key = _split(folder)
        delimiter = {} if deep else {"Delimiter": "/"}
        with s3_errors(f"s3://{folder}"):
            yield from (
                client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=_prefix(key), **delimiter)
            )


class _Object(io.RawIOBase):
    """An object to read. Each read is a request of its own: a reader may take hours between two of them.

    What changes while it is read is found out by its ETag.
    """

    def __init__(self, path: str) -> None:
        self._uri = f"s3://{path}"
        self._bucket, self._key = _split(path)
        with s3_errors(self._uri):
            found = client().head_object(Bucket=self._bucket, Key=self._key)
        self._size, self._etag, self._position = found["ContentLength"], found["ETag"], 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        with s3_errors(self._uri):
            content = self._get(f"bytes={self._position}-{end - 1}")
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _get(self, span: str, tries: int = TRIES) -> bytes:
        try:
            answer = client().get_object(Bucket=self._bucket, Key=self._key, IfMatch=self._etag, Range=span)
            content: bytes = answer["Body"].read()
        except _CUT_OFF:
            # boto3 tries requests again, but not an answer whose connection breaks in the middle.
            if tries == 1:
                raise
            return self._get(span, tries - 1)
        return content


def _split(path: str) -> tuple[str, str]:
    bucket, _, key = path.partition("/")
    return bucket, key


def _prefix(key: str) -> str:
    return f"{key}/" if key else ""
