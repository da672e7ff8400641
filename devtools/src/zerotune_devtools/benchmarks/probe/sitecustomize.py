"""Notes what takes the time of a run, whoever drives it: Python imports this first, by PYTHONPATH.

A line for each call of `step` of DeepSpeed's engine goes to `STEP_PROBE/PID.jsonl`: wall clock and CPU seconds of the
process, of all its threads, when the call is over; the loss that was given to `backward`; and the norm of the gradient.
A line for each call of transformers' `generate` goes to `STEP_PROBE/PID.generations`: wall clock and CPU seconds
before and after, and the wall clock when the prompts have been run through the model, so that a first token is there.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


class _Finder(importlib.abc.MetaPathFinder):
    """Finds a module where Python does, and adds a probe when it has been imported."""

    def __init__(self, name: str, probe: Callable[[ModuleType], None]) -> None:
        self._name, self._probe = name, probe

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_probe(module: ModuleType) -> None:
            execute(module)
            self._probe(module)

        spec.loader.exec_module = execute_and_probe  # type: ignore[method-assign]
        return spec


def _note(name: str, line: dict[str, Any]) -> None:
    with Path(os.environ["STEP_PROBE"], f"{os.getpid()}.{name}").open("a") as lines:
        lines.write(json.dumps(line) + "\n")


def _probe_steps(module: ModuleType) -> None:
    engine = module.DeepSpeedEngine
    backward, step = engine.backward, engine.step
    losses: list[float] = []

    def noted_backward(self: Any, loss: Any, *args: Any, **kwargs: Any) -> Any:
        losses.append(float(loss.detach()))
        return backward(self, loss, *args, **kwargs)

    def noted_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        done = step(self, *args, **kwargs)
        line = {"wall": time.monotonic(), "cpu": time.process_time(), "loss": losses[-1]}
        norm = self.get_global_grad_norm()
        _note("jsonl", line | {"grad_norm": None if norm is None else float(norm)})
        return done

    engine.backward, engine.step = noted_backward, noted_step


def _probe_generations(module: ModuleType) -> None:
    mixin = module.GenerationMixin
    generate, prefill = mixin.generate, mixin._prefill
    prefilled: list[float] = []

    def noted_prefill(self: Any, *args: Any, **kwargs: Any) -> Any:
        done = prefill(self, *args, **kwargs)
        prefilled.append(time.time())
        return done

    def noted_generate(self: Any, *args: Any, **kwargs: Any) -> Any:
        began = {"began": time.time(), "cpu_began": time.process_time()}
        done = generate(self, *args, **kwargs)
        ended = {"ended": time.time(), "cpu_ended": time.process_time(), "first_token": prefilled[-1]}
        _note("generations", began | ended)
        return done

    mixin.generate, mixin._prefill = noted_generate, noted_prefill


if "STEP_PROBE" in os.environ:
    sys.meta_path.insert(0, _Finder("deepspeed.runtime.engine", _probe_steps))
    sys.meta_path.insert(0, _Finder("transformers.generation.utils", _probe_generations))
