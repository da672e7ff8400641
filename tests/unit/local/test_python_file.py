"""A user's Python file is looked at, and never run, before a job starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zerotune_operator.backends.local.python_file import python_problem
from zerotune_operator.backends.python_source import Function
from zerotune_trainer.config.functions import CALLBACK, LOSS, METRIC, PROCESSING, Signature
from zerotune_trainer.config.plugin import Plugin
from zerotune_trainer.errors import ConfigurationError, InputMissingError
from zerotune_trainer.plugin import load_plugin


def problem(path: Path, *names: str) -> str:
    return problem_of(path, *((name, PROCESSING) for name in names))


def problem_of(path: Path, *used: Function) -> str:
    found = python_problem("plugin.file", path, used)
    return f"{found.failure_class}: {found.message}: {found.hint}" if found else ""


def written(folder: Path, source: str) -> Path:
    path = folder / "plugin.py"
    path.write_text(source)
    return path


@pytest.mark.parametrize(
    "source",
    [
        "def clean(record): return record",
        "class clean: pass",
        "from mine import clean",
        "import mine as clean",
        "clean = print",
        "try:\n    from mine import clean\nexcept ImportError:\n    clean = None",
        "if True:\n    def clean(record): return record",
        "clean: object = lambda record: record",
        "(clean, other) = (1, 2)",
        "from mine import *",
        "globals()['clean'] = print",
        "def __getattr__(name): return print",
    ],
)
def test_a_name_may_be_bound_in_any_way(tmp_path: Path, source: str) -> None:
    assert problem(written(tmp_path, source), "clean") == ""


def test_a_name_that_is_bound_within_functions_alone_is_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, "import os\nfrom sys import path\ndef cleam(record):\n    clean = 1\n    return record\n")
    found = problem(path, "clean")
    assert f"InputMissing: plugin.file: {path} defines no 'clean': did you mean 'cleam'? it defines cleam" in found
    loaded = load_plugin(Plugin(file=f"file://{path}"))
    assert loaded is not None
    with pytest.raises(InputMissingError) as caught:
        loaded.function("clean", PROCESSING)
    assert caught.value.hint == "did you mean 'cleam'? it defines cleam"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def clean(record:\n    return record\n", "is not Python: line 1:"),
        ("x = 1\nreturn x\n", "is not Python: line 2: 'return' outside function"),
        ("x = '\0'", "is not Python: source code string cannot contain null bytes"),
        ("x = " + "(" * 5000, "is not Python: line 1: too many nested parentheses"),
        ("x = " + "-" * 200_000 + "1", "nested too deep"),
    ],
)
def test_what_is_not_python_is_rejected_with_its_line(tmp_path: Path, source: str, message: str) -> None:
    found = problem(written(tmp_path, source), "clean")
    assert message in found
    assert found.startswith(ConfigurationError.failure_class)


def test_nothing_of_the_file_runs(tmp_path: Path) -> None:
    path = written(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit\ndef clean(record): ...\n")
    assert problem(path, "clean") == ""
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    found = problem(tmp_path / "none.py")
    assert found == f"{InputMissingError.failure_class}: plugin.file: {tmp_path}/none.py is not there: check the path"


def test_a_folder_a_pipe_and_a_device_are_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert f"{tmp_path} is a folder: name the Python file: file://{tmp_path}/NAME.py" in problem(tmp_path)
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        assert "is no file, but a device, pipe or socket" in problem(path)


@pytest.mark.parametrize(
    ("source", "signature", "message"),
    [
        ("f = 7", PROCESSING, "cannot be called: it is of type int"),
        ("f: dict = {'a': 1}", PROCESSING, "cannot be called: it is of type dict"),
        ("f = []", PROCESSING, "cannot be called: it is of type list"),
        ("f = None", PROCESSING, "cannot be called: it is of type NoneType"),
        ("def f(): return {}", PROCESSING, "cannot be called: too many positional arguments"),
        ("def f(record, other): return record", PROCESSING, "cannot be called: missing a required argument: 'other'"),
        ("def f(*, record): return record", PROCESSING, "cannot be called: too many positional arguments"),
        ("def f(record, *, k): return record", PROCESSING, "cannot be called: missing a required"),
        ("f = lambda: {}", PROCESSING, "cannot be called: too many positional arguments"),
        ("def f(o, l): return o", LOSS, "cannot be called: got an unexpected keyword argument 'num_items_in_batch'"),
        ("def f(predictions): return 1.0", METRIC, "cannot be called: too many positional arguments"),
        ("def f(record):\n    yield record", PROCESSING, "cannot be called: it is a generator"),
        ("def f(record):\n    if record:\n        x = yield from [record]", PROCESSING, "it is a generator"),
        ("async def f(record): return record", PROCESSING, "cannot be called: it is async"),
        ("async def f(record): yield record", PROCESSING, "cannot be called: it is async"),
    ],
)
def test_what_cannot_be_called_so_is_seen_in_the_text_as_in_the_function(
    tmp_path: Path, source: str, signature: Signature, message: str
) -> None:
    path = written(tmp_path, source)
    found = problem_of(path, ("f", signature))
    assert found.startswith(f"{ConfigurationError.failure_class}: plugin.file: {path}:f ") and message in found
    loaded = load_plugin(Plugin(file=f"file://{path}"))
    assert loaded is not None
    with pytest.raises(ConfigurationError) as caught:
        loaded.function("f", signature)
    assert caught.value.message.removeprefix("file://") in found and found.endswith(caught.value.hint)


@pytest.mark.parametrize(
    "source",
    [
        "def f(record, *args, a=1, **k): return record",
        "def f(record, /): return record",
        "def f(record):\n    def inner(): yield 1\n    return dict(record, a=list(inner()), b=[(lambda: 1)()])",
        "import functools\n@functools.wraps(print)\ndef f(): return {}",
        "def f(): pass\nf = print",
        "if True:\n    def f(): pass",
        "class f:\n    def __init__(self, record): ...",
        "f = functools.partial(print, 1)",
    ],
)
def test_what_may_be_called_so_passes(tmp_path: Path, source: str) -> None:
    assert problem(written(tmp_path, source), "f") == ""


@pytest.mark.parametrize("source", ["def f(): pass", "class f: pass", "f = lambda: 1"])
def test_what_is_no_callback_is_named(tmp_path: Path, source: str) -> None:
    found = problem_of(written(tmp_path, source), ("f", CALLBACK))
    assert "plugin.py:f is no class derived from transformers.TrainerCallback: define class NAME(Tr" in found


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("class f(TrainerCallback):\n    def __init__(self, limit): ...", "missing a required argument: 'limit'"),
        ("class f(TrainerCallback):\n    def __init__(self, *, limit): ...", "missing a required"),
        (
            "class a(TrainerCallback):\n    def __init__(self, limit): ...\nclass f(a): pass",
            "missing a required argument: 'limit'",
        ),
        ("class f(TrainerCallback):\n    def __init__(self, limit=3): ...", ""),
        ("class f(TrainerCallback):\n    def __init__(*args, **options): ...", ""),
        ("class a(TrainerCallback):\n    def __init__(self, limit): ...\nclass f(a):\n    def __init__(self): ...", ""),
    ],
)
def test_a_callback_is_made_without_arguments(tmp_path: Path, source: str, problem: str) -> None:
    path = written(tmp_path, f"from transformers import TrainerCallback\n{source}\n")
    found = problem_of(path, ("f", CALLBACK))
    assert (f"{path}:f cannot be called: {problem}" in found) if problem else (found == "")
    loaded = load_plugin(Plugin(file=f"file://{path}"))
    assert loaded is not None
    if not problem:
        loaded.function("f", CALLBACK)
        return
    with pytest.raises(ConfigurationError) as caught:
        loaded.function("f", CALLBACK)
    assert caught.value.message.removeprefix("file://") in found


def test_a_class_derived_from_any_other_may_be_a_callback(tmp_path: Path) -> None:
    assert problem_of(written(tmp_path, "class f(base.Callback): pass"), ("f", CALLBACK)) == ""
