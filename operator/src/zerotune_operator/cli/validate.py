"""`zerotune validate FILE...`"""

from __future__ import annotations

from pathlib import Path

import typer

from zerotune_operator.api.load import load_documents
from zerotune_trainer.errors import ConfigurationError, InputMissingError, ZerotuneError


def command(files: list[Path]) -> None:
    """Check manifests against the schema and its rules; nothing is started."""
    errors = [error for file in files if (error := _check(file))]
    if errors:
        raise typer.Exit(max(error.exit_code for error in errors))


def _check(file: Path) -> ZerotuneError | None:
    """Print what one file holds, or what is wrong with it: one bad file does not hide the next."""
    try:
        documents = load_documents(file)
    except (ConfigurationError, InputMissingError) as error:
        typer.echo(f"error: {error}", err=True)
        return error
    for document in documents:
        if isinstance(document, dict):
            name = (document.get("metadata") or {}).get("name")
            typer.echo(f"{file}: not of zerotune, left alone: {document.get('kind')} {name}")
        else:
            typer.echo(f"{file}: ok, {document.kind} {document.metadata.name}")
    return None
