"""DeepSpeed, imported without mlflow, which its autotuner imports where it is installed and no job here asks for.

mlflow, and the pandas that comes with it, would take a seventh of the time in which a rank starts.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import cast


def _import_deepspeed() -> ModuleType:
    if "mlflow" in sys.modules:
        return importlib.import_module("deepspeed")
    # A module that is None there is one that cannot be imported (docs.python.org, sys.modules).
    sys.modules["mlflow"] = cast("ModuleType", None)
    try:
        return importlib.import_module("deepspeed")
    finally:
        del sys.modules["mlflow"]


deepspeed = _import_deepspeed()
