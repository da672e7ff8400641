"""`spec.script`: a training script of the user's own, for method script."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from zerotune_trainer.config.base import Rule, Settings, Uri


class Script(Settings):
    """A Python script that every rank runs. All else of the spec reaches it in the job's `config.json`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!self.file.startsWith('hf://')",
            "only models and data sets are read from the Hugging Face Hub: name the script as s3://, pvc:// or file://",
            "file",
        ),
    )

    file: Uri
    """The script: `s3://BUCKET/KEY`, `pvc://CLAIM/PATH`, or `file:///PATH` of this machine or of the pod: in its image,
    or in a ConfigMap that `backend.kubernetes.pod` mounts."""
    arguments: list[Annotated[str, StringConstraints(max_length=4096)]] = Field(default=[], max_length=256)
    """Its command line."""
