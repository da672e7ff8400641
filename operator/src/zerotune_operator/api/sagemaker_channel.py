"""`spec.backend.sagemaker.channels`: folders that SageMaker gives the container, named as in `CreateTrainingJob`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from zerotune_trainer.config.base import Rule, S3Folder, Settings

OWN_CHANNEL = "zerotune"
"""The channel of the job's own folder."""
ChannelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length=64)]
"""As the service model of botocore has it, but for names that are no folder's, as `..`."""


class FileSystemDataSource(Settings):
    """A folder of a file system in the VPC of `subnets`."""

    file_system_id: str = Field(pattern=r"^fs-[0-9a-f]{8,}$", max_length=21)
    """Its id: fs-0123456789abcdef0."""
    file_system_type: Literal["FSxLustre", "EFS"]
    """What it is."""
    directory_path: str = Field(pattern=r"^/.*$", max_length=4096)
    """The folder: of FSx for Lustre the file system's mount name comes first, /MOUNT/PATH."""
    file_system_access_mode: Literal["ro", "rw"] = "ro"
    """`rw` lets a script of yours write there; zerotune itself only reads."""


class Channel(Settings):
    """A folder that the container finds at /opt/ml/input/data/CHANNELNAME: on S3 or of a file system."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.channelName != '{OWN_CHANNEL}'",
            "is the channel of the job's own folder: use another name",
            "channelName",
        ),
        Rule(
            "has(self.s3Uri) != has(self.fileSystemDataSource)",
            "give exactly one of s3Uri and fileSystemDataSource",
        ),
        Rule(
            "self.inputMode != 'Pipe'",
            "Pipe is a stream that is read once, and every rank reads files, from the beginning or from where it "
            "stopped: use FastFile, which streams as well, or File",
            "inputMode",
        ),
        Rule(
            "self.inputMode != 'FastFile' || !has(self.fileSystemDataSource)",
            "FastFile is for S3, and a file system is mounted as it is: leave inputMode out",
            "inputMode",
        ),
    )

    channel_name: ChannelName
    """Name of the channel, and of its folder in /opt/ml/input/data."""
    s3_uri: S3Folder | None = None
    """The folder on S3 that every instance gets whole, with all that lies below it; neither a file nor a pattern."""
    file_system_data_source: FileSystemDataSource | None = None
    """The folder of a file system in the VPC."""
    input_mode: Literal["File", "FastFile", "Pipe"] = "File"
    """How files of S3 come: `File` copies all of them to the volume (`volumeSizeGb`) before the ranks start; `FastFile`
    reads them from S3 as ranks do. `Pipe` is not supported."""
