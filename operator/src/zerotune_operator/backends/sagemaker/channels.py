"""`backend.sagemaker.channels`: folders that SageMaker gives the container, and what of a job lies there. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from zerotune_operator.api.backend import SageMakerSpec
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.manifest_yaml import Problem
from zerotune_operator.api.sagemaker_channel import Channel
from zerotune_operator.backends.uris import uris_of

_FOLDER = "/opt/ml/input/data"
"""Where the container finds its channels, each in a folder of its name."""


def channel_requests(sagemaker: SageMakerSpec) -> list[dict[str, Any]]:
    """The channels as `CreateTrainingJob` takes them."""
    return [_request(channel) for channel in sagemaker.channels]


def s3_channel(name: str, folder: str, input_mode: str = "File") -> dict[str, Any]:
    """A channel of all files below a folder on S3, whole on every instance."""
    uri = f"{folder.rstrip('/')}/"
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "InputMode": input_mode, "DataSource": {"S3DataSource": source}}


def channel_facts(sagemaker: SageMakerSpec) -> list[tuple[str, str]]:
    """What `zerotune plan` prints of the channels."""
    return [(f"channel {each.channel_name}", f"{_described(each)}, at {_folder(each)}") for each in sagemaker.channels]


def source_uri(sagemaker: SageMakerSpec, uri: str) -> str:
    """Where on S3 lies what a URI names on a channel. Any other URI stays as it is."""
    channel = _channel_of(sagemaker, uri)
    if channel is None or channel.s3_uri is None:
        return uri
    below = _path(uri).relative_to(_folder(channel)).as_posix()
    return channel.s3_uri if below == "." else f"{channel.s3_uri.rstrip('/')}/{below}"


def channel_problems(job: Job, sagemaker: SageMakerSpec) -> Iterator[Problem]:
    """URIs of files that are on no channel, and channels that cannot be used as the job does."""
    for field, uri, is_written in uris_of(job):
        if not uri.startswith("file://") or is_written:
            continue  # api/support.py rejects what is to be written there.
        channel = _channel_of(sagemaker, uri)
        place = ("spec", *field.split("."))
        if channel is None:
            yield Problem(place, f"is {uri!r}: {no_channel(sagemaker)}: add a channel, or use s3://")
        elif field == "model.uri" and channel.s3_uri is None:
            yield Problem(
                place,
                f"is {uri!r}: the plan is made of the model's config.json, which nobody can read on a file system "
                "before the job runs: use a channel with s3Uri, s3:// or hf://",
            )
    yield from _written_channels(job, sagemaker)


def no_channel(sagemaker: SageMakerSpec) -> str:
    """Why a file of another machine cannot be read."""
    names = ", ".join(channel.channel_name for channel in sagemaker.channels) or "none"
    return (
        f"the container has files of channels alone, at file://{_FOLDER}/CHANNEL, and backend.sagemaker.channels has "
        f"{names}"
    )


def _written_channels(job: Job, sagemaker: SageMakerSpec) -> Iterator[Problem]:
    """Channels whose folder on S3 overlaps one that the job writes: its own files would come back as input."""
    written = [(field, uri) for field, uri, is_written in uris_of(job) if is_written]
    for index, channel in enumerate(sagemaker.channels):
        for field, uri in written:
            if channel.s3_uri is not None and _overlap(channel.s3_uri, uri):
                yield Problem(
                    ("spec", "backend", "sagemaker", "channels", index, "s3Uri"),
                    f"is {channel.s3_uri!r}: it overlaps {field} {uri!r}, and what the job writes would come back as "
                    f"input: let one of the two name another folder",
                )


def _overlap(one: str, other: str) -> bool:
    first, second = (f"{uri.rstrip('/')}/" for uri in (one, other))
    return first.startswith(second) or second.startswith(first)


def _channel_of(sagemaker: SageMakerSpec, uri: str) -> Channel | None:
    """The channel that a URI names a part of; None where it names none."""
    if not uri.startswith("file://"):
        return None
    return next((each for each in sagemaker.channels if _path(uri).is_relative_to(_folder(each))), None)


def _path(uri: str) -> PurePosixPath:
    return PurePosixPath(posixpath.normpath(uri.removeprefix("file://")))


def _folder(channel: Channel) -> str:
    return f"{_FOLDER}/{channel.channel_name}"


def _described(channel: Channel) -> str:
    if (source := channel.file_system_data_source) is None:
        how = "copied before the ranks start" if channel.input_mode == "File" else "read as ranks need it"
        return f"{channel.s3_uri} ({channel.input_mode}: {how})"
    kind, mode = source.file_system_type, source.file_system_access_mode
    return f"{source.directory_path} of {source.file_system_id} ({kind}, {mode})"


def _request(channel: Channel) -> dict[str, Any]:
    file_system = channel.file_system_data_source
    if file_system is None:
        return s3_channel(channel.channel_name, str(channel.s3_uri), channel.input_mode)
    source = {
        "FileSystemId": file_system.file_system_id,
        "FileSystemType": file_system.file_system_type,
        "DirectoryPath": file_system.directory_path,
        "FileSystemAccessMode": file_system.file_system_access_mode,
    }
    return {"ChannelName": channel.channel_name, "DataSource": {"FileSystemDataSource": source}}
