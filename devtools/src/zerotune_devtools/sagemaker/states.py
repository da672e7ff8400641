"""The states of a training job, as `DescribeTrainingJob` documents them: which status each secondary status belongs to,
and what may follow it.

InProgress  Starting > [Pending >] Downloading > Training > Uploading > Completed
                ^                     |            |  '---> Failed
                '----- Interrupted <--+------------'
Stopping    Stopping > Stopped, MaxRuntimeExceeded, MaxWaitTimeExceeded
Deleting    of one that has ended, whatever its secondary status is

The rest of botocore's enum is "no longer supported" (what instances do before `Downloading`), or described nowhere, and
fits in where its name says:

Starting > LaunchingMLInstances > PreparingTrainingStack > DownloadingTrainingImage > Downloading
Training > Updating > Training; Training > Restarting > Downloading
"""

from __future__ import annotations

_BEFORE_DOWNLOADING = ("LaunchingMLInstances", "PreparingTrainingStack", "DownloadingTrainingImage")

STATUSES = {
    **dict.fromkeys(("Starting", "Pending", *_BEFORE_DOWNLOADING, "Downloading"), "InProgress"),
    **dict.fromkeys(("Training", "Updating", "Interrupted", "Restarting", "Uploading"), "InProgress"),
    "Stopping": "Stopping",
    **dict.fromkeys(("Stopped", "MaxRuntimeExceeded", "MaxWaitTimeExceeded"), "Stopped"),
    "Completed": "Completed",
    "Failed": "Failed",
}
"""By secondary status."""

_ALWAYS = {"Stopping", "Failed"}
FOLLOWING = {
    "Starting": {"Pending", "LaunchingMLInstances", "Downloading", "Interrupted", *_ALWAYS},
    "Pending": {"Downloading", *_ALWAYS},
    "Downloading": {"Training", "Interrupted", *_ALWAYS},
    "LaunchingMLInstances": {"PreparingTrainingStack", "Interrupted", *_ALWAYS},
    "PreparingTrainingStack": {"DownloadingTrainingImage", "Interrupted", *_ALWAYS},
    "DownloadingTrainingImage": {"Downloading", "Interrupted", *_ALWAYS},
    "Training": {"Updating", "Restarting", "Uploading", "Interrupted", *_ALWAYS},
    "Updating": {"Training", "Interrupted", *_ALWAYS},
    "Restarting": {"Downloading", *_ALWAYS},
    "Interrupted": {"Starting", *_ALWAYS},
    "Uploading": {"Completed", *_ALWAYS},
    # The last two: it ends by itself before it is stopped.
    "Stopping": {"Stopped", "MaxRuntimeExceeded", "MaxWaitTimeExceeded", "Completed", "Failed"},
}
"""By secondary status: what may come next. After all others comes nothing."""


def require_follows(secondary: str, before: str) -> None:
    """See that the life of a training job is one that SageMaker documents.

    Raises:
        ValueError: it is not.
    """
    if secondary != before and secondary not in FOLLOWING.get(before, ()):
        raise ValueError(f"a training job that is {before} is never {secondary} next")
