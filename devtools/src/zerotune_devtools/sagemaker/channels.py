"""The channels of a training job on one of its hosts: folders below `/opt/ml/input/data`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3

FileSystems = Mapping[str, Path]
"""By the id of a file system: the folder of this machine that stands for it."""
_OPT_ML = "/opt/ml"
_OWN_OPT = (
    'mkdir -p "$1/tmp/opt"',
    'mount --rbind /opt "$1/tmp/opt"',
    "mount -t tmpfs none /opt",
    'for each in "$1/tmp/opt"/*/; do at="/opt/$(basename "$each")"; mkdir "$at" && mount --rbind "$each" "$at"; done',
    f"mkdir -p {_OPT_ML}",
)
"""Commands that give the namespace an `/opt` of its own with the folders of this machine's, which gets no `/opt/ml`.
`$1` is a host's root."""


def missing_file_system(request: dict[str, Any], file_systems: FileSystems) -> str | None:
    """Why the channels of a request cannot be mounted; None where they can."""
    for name, source in _file_system_sources(request):
        folder = _folder_of(source, file_systems)
        if folder is None or not folder.is_dir():
            place = f"{source['FileSystemId']}:{source['DirectoryPath']}"
            return f"ClientError: Unable to mount file system for channel {name}: {place} does not exist"
    return None


def download(channel: dict[str, Any], target: Path) -> None:
    """Copy the files of a channel of S3. `FastFile` too: what differs is when SageMaker reads them."""
    uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    for item in boto3.resource("s3").Bucket(bucket).objects.filter(Prefix=prefix):
        path = target / item.key.removeprefix(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item.get()["Body"].read())


def in_container(command: list[str], request: dict[str, Any], root: Path, file_systems: FileSystems) -> list[str]:
    """The command with `root` at `/opt/ml`, as URIs of channels name it, and the file systems mounted there. It needs
    root. Only where there are channels of the user's: other jobs find their `/opt/ml` by ZEROTUNE_OPT_ML.
    """
    if len(request["InputDataConfig"]) == 1:
        return command
    steps, arguments = [*_OWN_OPT], [str(root)]
    for name, source in _file_system_sources(request):
        arguments += [str(_folder_of(source, file_systems)), str(root / "input" / "data" / name)]
        target = f'"${{{len(arguments)}}}"'
        steps.append(f'mount --bind "${{{len(arguments) - 1}}}" {target}')
        if source["FileSystemAccessMode"] == "ro":
            steps.append(f"mount -o remount,bind,ro {target}")
    steps += [f'mount --rbind "$1" {_OPT_ML}', f"shift {len(arguments)}", 'exec "$@"']
    return ["unshare", "--mount", "sh", "-c", " && ".join(steps), "sh", *arguments, *command]


def _file_system_sources(request: dict[str, Any]) -> list[tuple[str, dict[str, str]]]:
    channels = request["InputDataConfig"]
    sources = [(each["ChannelName"], each["DataSource"].get("FileSystemDataSource")) for each in channels]
    return [(name, source) for name, source in sources if source is not None]


def _folder_of(source: dict[str, str], file_systems: FileSystems) -> Path | None:
    root = file_systems.get(source["FileSystemId"])
    return root / source["DirectoryPath"].strip("/") if root else None
