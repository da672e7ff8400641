"""What every part of a configuration has in common: strict fields, camelCase in files, rules between fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError


@dataclass(frozen=True)
class Rule:
    """A rule that ties fields of one object together, in CEL: the API server and `zerotune validate` run the same text.

    `self` is the object with its defaults filled in and absent fields left out; `oldSelf`, where the rule names it, is
    what the object was before a change.
    """

    cel: str
    """True where the rule holds."""
    message: str
    """The rule as a sentence, naming the fields, and the remedy."""
    field: str = ""
    """The field to blame, as a path below the object: `minNodes`, `zero.stage`."""


def each_once(field: str, remedy: str = "") -> Rule:
    """The rule that a list names nothing twice. For lists of few, short texts: the API server bounds a rule's cost,
    and this one compares each with each.
    """
    return Rule(
        f"self.{field}.all(one, self.{field}.exists_one(other, other == one))",
        f"{field} names one entry twice: name each once{remedy}",
        field,
    )


class Settings(BaseModel):
    """Base of every part: an unknown field is an error, names are camelCase in files and snake_case in code."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    """What must hold between the fields of this part."""


_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_HUB_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_CONTROLS = r"\p{Cc}\p{Cf}"
"""Control characters, and those that are not seen or turn the direction of writing (Unicode's category Format)."""
BUCKET = "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
"""Name of a bucket, by its length and its characters: what has keys or a password before an `@` is none.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
"""
_FILES = rf"s3://{BUCKET}(/[^{_CONTROLS}]*)?|pvc://{_SUBDOMAIN}(/[^{_CONTROLS}]*)?|file://[^{_CONTROLS}]+"

ObjectName = Annotated[str, StringConstraints(pattern=f"^{_SUBDOMAIN}$", max_length=253)]
"""Name of a Kubernetes object: a DNS subdomain."""

_URI = f"^(hf://[^{_CONTROLS}]+|{_FILES})$"
_MODEL_URI = f"^(hf://{_HUB_NAME}(/{_HUB_NAME})?/?|{_FILES})$"
_RECORDS_URI = f"^(hf://datasets/{_HUB_NAME}/{_HUB_NAME}(@[A-Za-z0-9_][A-Za-z0-9._/-]*)?|{_FILES})$"
_S3_FOLDER = rf"^s3://{BUCKET}(/[^*?\[\]{_CONTROLS}]*)?$"

URI_FORMS = {
    _URI: "s3://BUCKET/KEY, pvc://CLAIM/PATH or file:///PATH",
    _MODEL_URI: "hf://ORG/NAME, s3://BUCKET/PREFIX, pvc://CLAIM/PATH or file:///PATH",
    _RECORDS_URI: "hf://datasets/ORG/NAME[@REVISION], s3://BUCKET/KEY, pvc://CLAIM/PATH or file:///PATH",
    _S3_FOLDER: "s3://BUCKET/PREFIX, which is no pattern",
}
"""What the patterns of URIs match, for people."""

Uri = Annotated[str, StringConstraints(pattern=_URI, max_length=1024)]
"""Of files: `hf://` is for models and data sets."""

S3Folder = Annotated[str, StringConstraints(pattern=_S3_FOLDER, max_length=1023)]
"""A folder on S3: SageMaker takes URIs of 1024 characters, and it gets this one with a slash at its end."""

ModelUri = Annotated[str, StringConstraints(pattern=_MODEL_URI, max_length=1024)]
"""Of a model's folder."""

RecordsUri = Annotated[str, StringConstraints(pattern=_RECORDS_URI, max_length=1024)]
"""Of a file, a folder or a pattern of records, or of a data set of the Hugging Face Hub."""

Revision = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*([./][A-Za-z0-9_-]+)*$", max_length=255)
]
"""Branch, tag or commit of a repository of the Hugging Face Hub."""

MOST_LEVELS, MOST_VALUES = 32, 10_000


def is_bounded(value: Any, most_levels: int = MOST_LEVELS, most_values: int = MOST_VALUES) -> bool:
    """Whether code that walks a JSON value can bear its depth and its size. It is not walked recursively."""
    level, values = [value], 0
    for _ in range(most_levels):
        groups = [each for each in level if isinstance(each, dict | list)]
        level = [inner for group in groups for inner in (group.values() if isinstance(group, dict) else group)]
        values += len(level)
        if not level or values > most_values:
            break
    return not level and values <= most_values


def _bounded(most_values: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def check(value: dict[str, Any]) -> dict[str, Any]:
        if is_bounded(value, MOST_LEVELS, most_values):
            return value
        raise PydanticCustomError(
            "too_large",
            f"is nested more than {MOST_LEVELS} levels deep, or holds more than {most_values:,} values: "
            "make it smaller",
        )

    return check


JsonObject = Annotated[dict[str, Any], AfterValidator(_bounded(MOST_VALUES))]
"""A JSON object handed on as it is."""

PodOverlay = Annotated[dict[str, Any], AfterValidator(_bounded(1_000))]
"""A patch of a pod: every value of it is held to Kubernetes' schema of pods."""

Number = Annotated[float, Field(allow_inf_nan=False)]
"""A number that JSON can write: neither infinite nor NaN."""
