"""A plug-in: a Python file of the user's own, some of whose functions take the place of ours.

    processing        (record) -> dict                            what a record is, before anything else
    formattingFunc    (record) -> str | list of messages          its text, or its messages for the chat template
    computeLossFunc   (outputs, labels, num_items_in_batch=...)   the loss of a micro batch
    dataCollator      (rows) -> dict of tensors                   a batch
    metrics           (predictions, references) -> float | dict   of generated texts
    callbacks         classes of transformers' TrainerCallback

The file is run once in every process that uses it. An error of a function is a ConfigurationError, which names the
file, the function, its line, and the record or step.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from zerotune_trainer import storage
from zerotune_trainer.config.functions import COROUTINE, GENERATOR, Signature, cannot_be_called
from zerotune_trainer.config.plugin import Plugin, PluginFile
from zerotune_trainer.errors import SEE_TRACEBACK, ConfigurationError, InputMissingError, InternalError, ZerotuneError
from zerotune_trainer.failures import classify, placed, where_in

_MODULE = "zerotune_plugin"


class PluginError(ConfigurationError):
    """A function of a plug-in failed, or returned what it may not."""


@dataclass(frozen=True)
class LoadedPlugin:
    """The module that a plug-in's file makes."""

    file: str
    module: ModuleType

    def function(self, name: str, signature: Signature) -> Callable[..., Any]:
        """A function or class of it, which can be called so.

        Raises:
            InputMissingError: it has none of that name.
            ConfigurationError: it is none that can be called so.
        """
        if not hasattr(self.module, name):
            raise InputMissingError(f"{self.file} defines no {name!r}", self._there_are(name))
        found: Callable[..., Any] = getattr(self.module, name)
        if problem := _problem(found, signature):
            raise cannot_be_called(self.file, name, problem, signature)
        return found

    def wrong(self, name: str, place: str, problem: str, remedy: str) -> PluginError:
        """The error that a function returned what it may not."""
        return PluginError(f"{self.file}:{name} {problem} {place}", remedy)

    @contextmanager
    def errors(self, name: str, place: str) -> Iterator[None]:
        """Say which function failed, and at which record or step; an error that is not its own stays what it is.

        Raises:
            PluginError: the function raised an error.
            ConfigurationError: it was to end the process, as `sys.exit` does.
            ZerotuneError: memory, the disk or another rank failed.
        """
        try:
            yield
        except (Exception, SystemExit) as error:
            raise self._error_of(error, name, place) from error

    def _error_of(self, error: BaseException, name: str, place: str) -> ZerotuneError:
        found, where = classify(error), where_in(error, self.file.__eq__)
        if not isinstance(found, InternalError):
            return placed(error, found, f"{self.file}:{name}{where}")
        text = f"{self.file}:{name} failed {place}: {type(error).__name__}: {error}{where}"
        if isinstance(error, SystemExit):  # Which is no error of a record: it asks for the end of everything.
            return ConfigurationError(text, "let the function return or raise an error, and not end the process")
        return PluginError(text, f"correct the function; {SEE_TRACEBACK}")

    def _there_are(self, name: str) -> str:
        own = (each for each, value in vars(self.module).items() if getattr(value, "__module__", "") == _MODULE)
        names = [each for each in own if not each.startswith("_")]
        near = difflib.get_close_matches(name, names, n=1)
        listed = f"it defines {', '.join(names) or 'no function and no class'}"
        return f"did you mean {near[0]!r}? {listed}" if near else listed


def _problem(found: Any, signature: Signature) -> str:
    """Why something of a file cannot be called so; empty where it can."""
    if not callable(found):
        return f"it is of type {type(found).__name__}"
    try:
        problem = signature.problem(inspect.signature(found))
    except (TypeError, ValueError):  # What is written in C has none to look at.
        problem = ""
    if problem:
        return problem
    if inspect.isgeneratorfunction(found):
        return GENERATOR
    return COROUTINE if inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found) else ""


def load_plugin(plugin: PluginFile | None) -> LoadedPlugin | None:
    """Run the file of a plug-in, where a job has one.

    Raises:
        InputMissingError, ConfigurationError, TemporaryError: it is not there, or cannot be read or executed.
    """
    return None if plugin is None else LoadedPlugin(plugin.uri, _module(plugin.uri, storage.read_bytes(plugin.uri)))


@cache
def _module(uri: str, source: bytes) -> ModuleType:
    module = ModuleType(_MODULE)
    module.__file__ = uri
    sys.modules[_MODULE] = module  # Where dataclasses and pickle look for what the file defines.
    try:
        exec(compile(source, uri, "exec"), module.__dict__)  # noqa: S102 - running it is what was asked for
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}{where_in(error, uri.__eq__)}"
        raise ConfigurationError(f"{uri} cannot be executed: {what}", "try it with python") from error
    return module


def plugin_digest(plugin: Plugin | None) -> str | None:
    """Stands for the content of a plug-in that changes how rows are trained on; None where there is none. What rows it
    makes is part of the digest of the rows.
    """
    if plugin is None or not (plugin.compute_loss_func or plugin.data_collator or plugin.callbacks):
        return None
    return hashlib.sha256(storage.read_bytes(plugin.uri)).hexdigest()
