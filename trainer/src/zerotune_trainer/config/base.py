"""What every part of a configuration has in common: strict fields, camelCase in files, rules between fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

URI_SCHEMES = ("hf", "s3", "pvc", "file")
"""Where models, data, checkpoints and output may live: `hf://`, `s3://`, `pvc://CLAIM/PATH`, `file://`."""


@dataclass(frozen=True)
class Rule:
    """A rule that ties fields of one object together, in CEL: the API server and `zerotune validate` run the same text.

    `self` is the object with its defaults filled in and absent fields left out; `oldSelf`, where the rule names it, is
    what the object was before a change.
    """

    cel: str
    """True where the rule holds."""
    message: str
    """The rule in words, naming the fields, and the remedy."""
    field: str = ""
    """The field to blame, as a path below the object: `minNodes`, `zero.stage`."""


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


Number = Annotated[float, Field(allow_inf_nan=False)]
"""A number that JSON can write: neither infinite nor NaN."""
