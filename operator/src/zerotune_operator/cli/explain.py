"""`zerotune explain FIELD`."""

from __future__ import annotations

from typing import Annotated

import typer

from zerotune_operator.api.explain import explain


def command(field: Annotated[str, typer.Argument(metavar="FIELD", help="E.g. finetunejob.spec.zero.stage")]) -> None:
    """Describe a field of a FineTuneJob or InferenceJob."""
    typer.echo(explain(field))
