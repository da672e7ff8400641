"""Ctrl-C while a command is still being imported."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

INTERRUPTED = """
import os, signal, sys

class Interrupt:
    module, disposition = sys.argv.pop(), getattr(signal, sys.argv.pop())

    def find_spec(self, name, path=None, target=None):
        if name == self.module:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, Interrupt.disposition)
sys.meta_path.insert(0, Interrupt())
from zerotune_operator.cli import main
main()
"""
"""`zerotune`, to which Ctrl-C comes when it imports a module."""
QUIET = (-signal.SIGINT, "", "")
"""Exit status, which shells show as 130, and what was printed."""


def interrupted(module: str, disposition: str = "default_int_handler") -> tuple[int, str, str]:
    command = [sys.executable, "-c", INTERRUPTED, "status", "--help", disposition, module]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("module", ["typer", "zerotune_operator.cli.status", "zerotune_operator.api.jobs"])
def test_ctrl_c_during_imports_ends_the_command_quietly(module: str) -> None:
    assert interrupted(module) == QUIET


def test_a_command_that_ignores_ctrl_c_goes_on() -> None:
    code, said, complaint = interrupted("typer", "SIG_IGN")
    assert (code, complaint) == (0, "")
    assert "Show the jobs" in said
