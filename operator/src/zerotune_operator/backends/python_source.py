"""The text of a Python file of the user's, looked at without running any of it: its syntax, the names that it defines,
and whether what a job uses of it can be called. Pure."""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_trainer.config.functions import COROUTINE, GENERATOR, METRIC, Signature, cannot_be_called, no_callback
from zerotune_trainer.config.text_evaluation import BUILT_IN_METRICS
from zerotune_trainer.errors import ConfigurationError, InputMissingError

Function = tuple[str, Signature]
"""What a job uses of a file: the name of a function or class, and what it is called with."""
_DYNAMIC = frozenset({"globals", "exec", "setattr", "vars", "locals", "__dict__", "__getattr__"})
"""Names by which a file may define others that cannot be seen in it."""
_VALUES = {ast.List: "list", ast.Dict: "dict", ast.Tuple: "tuple", ast.Set: "set", ast.JoinedStr: "str"}


def functions_of(job: Job) -> list[Function]:
    """Everything that a job uses of its plug-in."""
    used = job.spec.plugin.functions if job.spec.plugin else []
    generation = job.spec.evaluation.generation if isinstance(job, FineTuneJob) else None
    metrics = generation.metrics if generation else []
    return [*used, *((name, METRIC) for name in metrics if name not in BUILT_IN_METRICS)]


def require_source(field: str, file: str, source: bytes | str, used: Sequence[Function]) -> None:
    """See that the text of a Python file is one, and defines what a job uses of it.

    Args:
        field: What names it in the spec: `plugin.file`.
        file: What it is called.
        source: Its text.
        used: The functions and classes that the job uses of it.

    Raises:
        ConfigurationError: it is not Python, or something of it cannot be called as the job calls it.
        InputMissingError: it does not define all of it.
    """
    tree = _parsed(field, file, source)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    bound = list(_bound(tree.body))
    if "*" in bound or _DYNAMIC & (names | set(bound)):
        return
    for name, signature in used:
        if name not in bound:
            raise _undefined(field, file, name, sorted(set(_defined(tree))))
        if bound.count(name) == 1:  # Else it is not known which of them counts.
            _require_callable(f"{field}: {file}", name, tree, signature)


def _parsed(field: str, file: str, source: bytes | str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of escapes in its texts.
            tree = ast.parse(source, file)
            compile(tree, file, "exec")  # Sees a `return` outside of a function, for one.
    except (SyntaxError, ValueError) as error:
        line = f" line {error.lineno}:" if isinstance(error, SyntaxError) and error.lineno else ""
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ConfigurationError(f"{field}: {file} is not Python:{line} {text}", "correct the file") from error
    except (RecursionError, MemoryError) as error:
        raise ConfigurationError(f"{field}: {file} is nested too deep to be Python", "write it flatter") from error
    return tree


def _undefined(field: str, file: str, name: str, defined: list[str]) -> InputMissingError:
    close = get_close_matches(name, defined, n=1)
    public = [each for each in defined if not each.startswith("_")]
    listed = f"it defines {', '.join(public) or 'no function and no class'}"
    return InputMissingError(
        f"{field}: {file} defines no {name!r}", f"did you mean {close[0]!r}? {listed}" if close else listed
    )


def _require_callable(file: str, name: str, tree: ast.Module, signature: Signature) -> None:
    """See that what a file binds to a name, once, can be called; what it is made by is not known, and passes."""
    node = next((found for found in tree.body if _binds(found, name)), None)
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else node
    made = _constructor(value, tree) if signature.is_class and isinstance(value, ast.ClassDef) else None
    if problem := signature.problem(_bound_to_self(made.args)) if made else _problem(value, signature):
        raise cannot_be_called(file, name, problem, signature)
    is_function = isinstance(value, ast.FunctionDef | ast.Lambda) and not getattr(value, "decorator_list", [])
    if signature.is_class and (is_function or (isinstance(value, ast.ClassDef) and not value.bases)):
        raise no_callback(file, name)


def _constructor(kind: ast.ClassDef, tree: ast.Module) -> ast.FunctionDef | None:
    """What makes a class, its own or that of a base in the same file; None where that is not known."""
    if kind.decorator_list or kind.keywords:  # They may make anything of it.
        return None
    own = [node for node in kind.body if isinstance(node, ast.FunctionDef) and node.name in ("__init__", "__new__")]
    if own:
        return own[0] if len(own) == 1 and not own[0].decorator_list else None
    base = kind.bases[0] if kind.bases else None
    bases = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef) and isinstance(base, ast.Name) and node.name == base.id
    ]
    return _constructor(bases[0], tree) if len(bases) == 1 and bases[0] is not kind else None


def _bound_to_self(args: ast.arguments) -> inspect.Signature:
    """The signature of a method without its first parameter."""
    found = list(_signature(args).parameters.values())
    takes_all = bool(found) and found[0].kind is inspect.Parameter.VAR_POSITIONAL
    return inspect.Signature(found if takes_all else found[1:])


def _binds(node: ast.stmt, name: str) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name == name
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _problem(value: ast.AST | None, signature: Signature) -> str:
    """Why a value, or what a statement defines, cannot be called so; empty where it can, or nobody knows."""
    if isinstance(value, ast.Constant):
        return f"it is of type {type(value.value).__name__}"
    if type(value) in _VALUES:
        return f"it is of type {_VALUES[type(value)]}"
    if not isinstance(value, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return ""
    if getattr(value, "decorator_list", []):  # They may make anything of it.
        return ""
    if problem := signature.problem(_signature(value.args)):
        return problem
    if isinstance(value, ast.AsyncFunctionDef):
        return COROUTINE
    body = value.body if isinstance(value, ast.FunctionDef) else [value.body]
    return GENERATOR if any(map(_yields, body)) else ""


def _yields(node: ast.AST) -> bool:
    """Whether a part of a function makes it a generator: functions within it do not."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
        return False
    return isinstance(node, ast.Yield | ast.YieldFrom) or any(map(_yields, ast.iter_child_nodes(node)))


def _signature(args: ast.arguments) -> inspect.Signature:
    kinds = inspect.Parameter
    positional = [*args.posonlyargs, *args.args]
    without_default = len(positional) - len(args.defaults)
    found = [
        kinds(
            each.arg,
            kinds.POSITIONAL_ONLY if place < len(args.posonlyargs) else kinds.POSITIONAL_OR_KEYWORD,
            default=kinds.empty if place < without_default else None,
        )
        for place, each in enumerate(positional)
    ]
    if args.vararg:
        found.append(kinds(args.vararg.arg, kinds.VAR_POSITIONAL))
    found += [
        kinds(each.arg, kinds.KEYWORD_ONLY, default=kinds.empty if default is None else None)
        for each, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
    ]
    if args.kwarg:
        found.append(kinds(args.kwarg.arg, kinds.VAR_KEYWORD))
    return inspect.Signature(found)


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    """Names that statements bind, those in blocks of `if`, `try`, `with` and loops too, none of functions."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        else:
            yield from _bound_in(node)


def _defined(body: ast.AST) -> Iterator[str]:
    """Names of the functions and classes among what `_bound` gives: what is imported is none of the file's."""
    for node in ast.iter_child_nodes(body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        else:
            yield from _defined(node)


def _bound_in(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    for child in ast.iter_child_nodes(node):
        yield from _bound([child]) if isinstance(child, ast.stmt) else _bound_in(child)
