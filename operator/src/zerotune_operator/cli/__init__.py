"""The command line `zerotune`: one module a command, imported when that command is called."""

from __future__ import annotations

from zerotune_operator.cli.interrupts import ended_by_ctrl_c


def main() -> None:
    """Run `zerotune`. An error meant for the user is printed with its hint and ends with its own exit code."""
    with ended_by_ctrl_c():
        from zerotune_operator.cli.app import run  # Here: it takes a third of a second, and may be interrupted.
    run()
