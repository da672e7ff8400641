"""`zerotune generate [--check]`: the generated files, for those who work on zerotune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zerotune_operator.api.crd import generated_files
from zerotune_trainer.errors import ConfigurationError


def command(
    folder: Annotated[Path, typer.Argument(help="Where the CRDs are.")] = Path("crds"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail where a file would change.")] = False,
) -> None:
    """Write the CRDs from the schema."""
    stale = [path for name, text in generated_files() if not _is_current(path := folder / name, text)]
    if check and stale:
        raise ConfigurationError(
            f"not what the schema gives: {', '.join(map(str, stale))}", "run `make generate` and commit the result"
        )
    texts = dict(generated_files())
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[Path(path.name)], encoding="utf-8")
        typer.echo(f"wrote {path}")


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
