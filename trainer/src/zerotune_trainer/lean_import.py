"""Imports of a library without another one that it imports where that is installed: in every rank that takes time."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import cast


def import_without(absent: str, name: str) -> ModuleType:
    """Import a library as where `absent` is not installed, unless that was imported already."""
    if absent in sys.modules:
        return importlib.import_module(name)
    # A module that is None there is one that cannot be imported (docs.python.org, sys.modules).
    sys.modules[absent] = cast("ModuleType", None)
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[absent]
