"""A URI as a store and a path in it, and what the errors of the system mean for who wrote it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zerotune_trainer.errors import ConfigurationError, InputMissingError, ZerotuneError


@dataclass(frozen=True)
class Location:
    """A place that can be listed and read: `path` is absolute for `file://`, `BUCKET/KEY` for `s3://`."""

    uri: str
    scheme: str
    path: str

    @property
    def local(self) -> Path | None:
        """The path on this machine, for `file://`."""
        return Path(self.path) if self.scheme == "file" else None

    def at(self, path: str) -> Location:
        """Another path of the same store."""
        return Location(f"{self.scheme}://{path}", self.scheme, path)

    def below(self, relative: str) -> Location:
        """A path below this folder."""
        return self.at(f"{self.path.rstrip('/')}/{relative}")


def locate(uri: str) -> Location:
    """Read a URI of a file or folder. What stands after `file://` is the path as it is, without percent-encoding.

    Raises:
        ConfigurationError: a scheme that holds no files here, or a relative path.
    """
    scheme, _, path = uri.partition("://")
    if scheme == "s3":
        return Location(uri, scheme, path.rstrip("/"))
    if scheme != "file":
        raise ConfigurationError(f"{uri!r} is neither file:// nor s3://", _remedy(scheme))
    if not path.startswith("/"):
        raise ConfigurationError(
            f"{uri!r} is a relative path", "write file:// and an absolute path: file:///data/a.jsonl"
        )
    # A `..` is what it says, as the plan reads it: to make the folder x of x/.. would leave a file of nobody's behind.
    return Location(uri, scheme, posixpath.normpath(f"/{path.lstrip('/')}"))


def _remedy(scheme: str) -> str:
    if scheme == "hf":
        return "of the hub models are read, and data sets as hf://datasets/ORG/NAME; give files as file:// or s3://"
    if scheme == "pvc":
        return "claims are mounted by the backend; on this machine give the folder as file://"
    return "write file:///PATH or s3://BUCKET/KEY"


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Say what an error of the system means for who wrote `uri`; one that says nothing about it rises as it is.

    What a store on the network says has its meaning already (`s3.s3_errors`).

    Raises:
        InputMissingError: no such file or folder; on S3, no such bucket or key.
        ConfigurationError: access denied.
        TemporaryError: the store does not answer.
    """
    try:
        yield
    except OSError as error:
        meaning = _meaning(uri, error)
        if meaning is None:
            raise
        raise meaning from error


def _meaning(uri: str, error: OSError) -> ZerotuneError | None:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return InputMissingError(
            f"{uri} is not there", "check the path, and that the volume or bucket is the right one"
        )
    if isinstance(error, IsADirectoryError):
        return ConfigurationError(
            f"{uri} is a folder where a file is wanted",
            "name a file in it; where it stands in the way of a file that is written, give another output folder",
        )
    if isinstance(error, PermissionError):
        return ConfigurationError(
            f"{uri}: {error.strerror or error}", "let the user that runs the job read and write it"
        )
    return None
