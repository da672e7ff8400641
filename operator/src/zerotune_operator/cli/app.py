"""The commands of `zerotune`, and what becomes of their errors."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from zerotune_operator.cli.interrupts import end_on_ctrl_c, ended_by_ctrl_c
from zerotune_trainer.errors import ZerotuneError

COMMANDS = {
    "validate": "Check manifests against the schema and its rules; nothing is started.",
    "explain": "Describe a field of a FineTuneJob or InferenceJob.",
    "plan": "Show what a job would do: ranks, batch, ZeRO stage, memory.",
    "data": "Show a job's records as the model will see them, or write them as rows.",
    "run": "Run a job on this machine, or on SageMaker.",
    "status": "Show the jobs that were run from this machine.",
    "logs": "Print what the ranks of such a job wrote.",
    "stop": "Stop a job on SageMaker, after a checkpoint.",
    "operator": "Run the operator on a cluster.",
    "generate": "Write the CRDs from the schema.",
}
"""Each command and its line of help; `zerotune_operator.cli.NAME` holds its function `command`, or its group `app`."""

HIDDEN = {"generate"}
"""Commands for those who work on zerotune."""


class LazyCommand(TyperCommand):
    """A command whose module is imported only when the command is called: `zerotune --help` imports none of them."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Import the command, and hand on to it."""
        with ended_by_ctrl_c():
            module = import_module(f"zerotune_operator.cli.{self.name}")
        app = getattr(module, "app", None) or self._alone(module.command)
        return get_command(app).make_context(info_name, args, parent, **extra)

    def _alone(self, command: Callable[..., None]) -> typer.Typer:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(self.name, help=COMMANDS[str(self.name)])(command)
        return app


_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, add_completion=False)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"zerotune {version('zerotune-operator')}")
        raise typer.Exit


@_app.callback()
def _zerotune(show: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True)) -> None:
    """Full-parameter fine-tuning and batch inference of language models with DeepSpeed."""


def build() -> TyperGroup:
    """The group `zerotune` with all of `COMMANDS`."""
    group = get_command(_app)
    assert isinstance(group, TyperGroup)
    for name, line in COMMANDS.items():
        group.add_command(LazyCommand(name, help=line, rich_markup_mode=None, hidden=name in HIDDEN))
    return group


def run() -> None:
    """Run `zerotune`. An error meant for the user is printed with its hint and ends with its own exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # In a locale of few characters a name that it has no letter for is escaped; it ends no command.
            stream.reconfigure(errors="backslashreplace")
    try:
        build().main(prog_name="zerotune")
    except ZerotuneError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    finally:
        # The interpreter waits for threads that ask a service: once more Ctrl-C ends that, and prints no traceback.
        end_on_ctrl_c()
