"""Notes every step of DeepSpeed's engine, whoever drives it: Python imports this first, by PYTHONPATH.

A line for each call of `step` goes to `STEP_PROBE/PID.jsonl`: wall clock and CPU seconds of the process, of all its
threads, when the call is over; the loss that was given to `backward`; and the norm of the gradient.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_ENGINE = "deepspeed.runtime.engine"


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the engine's module where Python does, and adds the probe when it has been imported."""

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        if fullname != _ENGINE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_probe(module: ModuleType) -> None:
            execute(module)
            _probe(module.DeepSpeedEngine)

        spec.loader.exec_module = execute_and_probe  # type: ignore[method-assign]
        return spec


def _probe(engine: Any) -> None:
    backward, step = engine.backward, engine.step
    losses: list[float] = []

    def noted_backward(self: Any, loss: Any, *args: Any, **kwargs: Any) -> Any:
        losses.append(float(loss.detach()))
        return backward(self, loss, *args, **kwargs)

    def noted_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        done = step(self, *args, **kwargs)
        line = {"wall": time.monotonic(), "cpu": time.process_time(), "loss": losses[-1]}
        norm = self.get_global_grad_norm()
        with Path(os.environ["STEP_PROBE"], f"{os.getpid()}.jsonl").open("a") as lines:
            lines.write(json.dumps(line | {"grad_norm": None if norm is None else float(norm)}) + "\n")
        return done

    engine.backward, engine.step = noted_backward, noted_step


if "STEP_PROBE" in os.environ:
    sys.meta_path.insert(0, _Finder())
