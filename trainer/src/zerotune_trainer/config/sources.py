"""Where a model comes from, and where results go."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from zerotune_trainer.config.base import ModelUri, ObjectName, Revision, Rule, Settings, Uri

_OF_FILES = "[.](bin|csv|gguf|gz|json|jsonl|parquet|pt|pth|safetensors|tar|txt|zip)$"
"""How names end that no folder has."""

FOLDER_RULES = (
    Rule(
        "!has(self.uri) || !(self.uri.contains('*') || self.uri.contains('?') || self.uri.contains('['))",
        "one folder is wanted here, and *, ? and [ are for patterns: write the folder's own name",
        "uri",
    ),
    Rule(
        f"!has(self.uri) || self.uri.startsWith('hf://') || !self.uri.matches('{_OF_FILES}')",
        "a folder is wanted here, and this is the name of a file: write the name of the folder that holds the files",
        "uri",
    ),
)
"""Of a part whose `uri` is a folder."""


class SecretReference(Settings):
    """A Secret of the job's namespace. Pods get single keys of it by name; the operator never reads it."""

    secret_name: ObjectName
    """Name of the Secret. Ranks get as environment variables for `hf://` its keys HF_TOKEN and, if any, HF_ENDPOINT;
    for `s3://` AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if any, AWS_SESSION_TOKEN, AWS_ENDPOINT_URL[_S3],
    AWS_REGION, AWS_DEFAULT_REGION. Two for one scheme: the output's counts, then that of checkpoints, data, model."""


_REVISION_OF_HUB = Rule(
    "!has(self.revision) || has(self.uri) && self.uri.startsWith('hf://')",
    "revision names a branch, tag or commit of an hf:// model: leave it out for any other model",
    "revision",
)


class Model(Settings):
    """The model a job starts from."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.uri) != has(self.fromFineTuneJob)", "give exactly one of uri and fromFineTuneJob"),
        Rule(
            "!has(self.checkpoint) || has(self.fromFineTuneJob)",
            "checkpoint is one of the job that fromFineTuneJob names: name that job, or leave checkpoint out",
            "checkpoint",
        ),
        _REVISION_OF_HUB,
        *FOLDER_RULES,
    )

    uri: ModelUri | None = None
    """The model's folder: `hf://ORG/NAME`, `s3://BUCKET/PREFIX`, `pvc://CLAIM/PATH` or `file:///PATH`."""
    from_fine_tune_job: ObjectName | None = None
    """Name of a FineTuneJob whose output is the model. The job waits for it, and fails when it fails."""
    checkpoint: Annotated[str, StringConstraints(pattern=r"^(checkpoint-[0-9]{1,18}|last|best)$")] | None = None
    """A checkpoint of that job in place of its output: `checkpoint-STEP`, `last` or `best`. That job may still run, or
    have failed."""
    revision: Revision | None = None
    """Branch, tag or commit of an `hf://` model."""
    attn_implementation: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """Attention kernels (transformers `attn_implementation`). `auto`: flash_attention_2 where a CUDA device and the
    package are there, else sdpa, else eager."""
    resize_embeddings: bool = False
    """Grow the embeddings (and the head) before training where the tokenizer has more tokens than the model, new ones
    drawn from the distribution of those that are there (transformers `resize_token_embeddings`)."""
    trust_remote_code: bool = False
    """Run Python code that the model's folder brings along (transformers `trust_remote_code`)."""
    chat_template: str | None = Field(default=None, max_length=65536)
    """A Jinja chat template that replaces the tokenizer's own."""
    credentials: SecretReference | None = None
    """Secret with the token or keys that reading the model takes."""


class ReferenceModel(Settings):
    """A model that judges records before training. It has the tokenizer and the attention kernels of `model`, and is
    read with its credentials."""

    rules: ClassVar[tuple[Rule, ...]] = (_REVISION_OF_HUB, *FOLDER_RULES)

    uri: ModelUri
    """The model's folder: `hf://ORG/NAME`, `s3://BUCKET/PREFIX`, `pvc://CLAIM/PATH` or `file:///PATH`."""
    revision: Revision | None = None
    """Branch, tag or commit of an `hf://` model."""
    trust_remote_code: bool = False
    """Run Python code that the model's folder brings along (transformers `trust_remote_code`)."""


class Output(Settings):
    """Where the result goes."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.uri) || !self.uri.startsWith('hf://')",
            "hf:// is read, never written: use s3://, pvc:// or file://",
            "uri",
        ),
        *FOLDER_RULES,
    )

    uri: Uri | None = None
    """Folder that receives the result; its `manifest.json` is written last. Required but for the local backend, which
    has a folder of its own."""
    credentials: SecretReference | None = None
    """Secret with the keys that writing takes."""
