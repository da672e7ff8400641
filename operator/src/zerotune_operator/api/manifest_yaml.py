"""YAML as kubectl reads it (sigs.k8s.io/yaml), with the line of every field.

Where PyYAML differs: `2e-5` is a number here, `1:30` and `2026-01-01` are text, and a key given twice is an error.
ruamel.yaml has lines and finds keys given twice too. What most of this module is for, the rules by which kubectl
distinguishes a number from a text, it has no more than PyYAML: they are neither those of YAML 1.1 nor of 1.2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]
"""Where a value is in its document: `("spec", "data", "train", "uris", 0)`."""

MOST_NODES = 100_000
"""Values a document may have, aliases followed: far more than a manifest needs, far fewer than a YAML bomb holds."""
_TOO_MANY = f"has more than {MOST_NODES:,} values, those that aliases stand for included: write fewer"


_LONGEST_NUMBER = 100
"""Characters of a number, far more than 64 bits take."""
MOST_LEVELS = 100
"""Groups and lists in one another that a document may have."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a document."""

    path: Path
    message: str
    """What was found, the rule, the remedy; it follows the field's name in a sentence."""
    line: int | None = None

    def __str__(self) -> str:
        where = path_text(self.path)
        return f"{where} {self.message}" if where else self.message


@dataclass
class Document:
    """One document of a YAML file."""

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    """Line of each field and list item, counted from 1 in the file."""
    problems: list[Problem] = field(default_factory=list)
    """What is wrong with the YAML itself."""


def path_text(path: Path) -> str:
    """`spec.data.train.uris[0]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


class _TooLargeError(Exception):
    pass


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - PyYAML's own name and type

    def get_node(self) -> yaml.Node | None:
        """The next document, with no more values than a document may have."""
        self._composed = 0
        return super().get_node()

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As PyYAML, which reads a document whole before anybody can count its values."""
        self._composed += 1
        if self._composed > 2 * MOST_NODES:  # Keys are nodes too.
            raise _TooLargeError(_TOO_MANY)
        return super().compose_node(parent, index)


_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"^[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_TRUE = re.compile(r"^(y|Y|yes|Yes|YES|on|On|ON|true|True|TRUE)$")
_FALSE = re.compile(r"^(n|N|no|No|NO|off|Off|OFF|false|False|FALSE)$")
_NOT_JSON = re.compile(r"^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$")

for _name, _pattern in (
    ("merge", re.compile(r"^<<$")),
    ("null", re.compile(r"^(~|null|Null|NULL|)$")),
    ("bool", re.compile(f"{_TRUE.pattern}|{_FALSE.pattern}")),
    ("int", _INT),
    ("float", re.compile(f"{_FLOAT.pattern}|{_NOT_JSON.pattern}")),
):
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, None)


def read_documents(text: str) -> Iterator[Document]:
    """The documents of a YAML text, empty ones left out. Broken syntax ends the last one, as its problem."""
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            assert node is not None
            document = _Reader(loader).read(node)
            if document.value is not None or document.problems:
                yield document
    except _TooLargeError as error:
        yield Document(problems=[Problem((), str(error))])
    except RecursionError:
        yield Document(problems=[Problem((), f"is nested more than {MOST_LEVELS} levels deep: make it flatter")])
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        remedy = _remedy_for_syntax(what, text.splitlines()[max(mark.line - 1, 0) : mark.line + 1] if mark else [])
        yield Document(problems=[Problem((), f"this is not YAML: {what}{remedy}", mark.line + 1 if mark else None)])
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        yield Document(
            problems=[Problem((), f"this is not YAML: character #x{error.character:04x} is not allowed", line)]
        )


def _remedy_for_syntax(what: str, lines: list[str]) -> str:
    if "'\\t'" in what:
        return ": YAML is indented with spaces, replace the tab"
    if any("\u00a0" in line for line in lines):
        return ": there is a no-break space, as web pages have: write plain spaces"
    return ""


class _Reader:
    """Turns the nodes of one document into values."""

    def __init__(self, loader: _Loader) -> None:
        self._loader = loader
        self._document = Document()
        self._nodes = 0

    def read(self, node: yaml.Node) -> Document:
        try:
            self._document.value = self._value(node, ())
        except _TooLargeError as error:
            self._complain((), node, str(error))
        return self._document

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise _TooLargeError(_TOO_MANY)
        if len(path) > MOST_LEVELS:
            raise _TooLargeError(f"is nested more than {MOST_LEVELS} levels deep, aliases followed: make it flatter")
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        self._find_duplicates(node, path)
        self._loader.flatten_mapping(node)
        result = {}
        for key, value in node.value:
            name = str(key.value)
            self._document.lines[(*path, name)] = key.start_mark.line + 1
            result[name] = self._value(value, (*path, name))
        return result

    def _find_duplicates(self, node: yaml.MappingNode, path: Path) -> None:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if not isinstance(key, yaml.ScalarNode):
                self._complain(path, key, "has a key that is not text: quote it")
            elif name in seen:
                first = seen[name]
                self._complain((*path, name), key, f"is given twice, first in line {first}: keep one of them")
            seen[name] = line

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text, kind = node.value, node.tag.removeprefix(_TAG)
        if kind in ("str", "merge"):
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return bool(_TRUE.match(text))
        if kind in ("int", "float"):
            return self._checked_number(node, path)
        self._complain(path, node, f"is {text!r} of YAML type {kind!r}, which JSON does not have: quote it")
        return text

    def _checked_number(self, node: yaml.ScalarNode, path: Path) -> Any:
        text = node.value
        if len(text) > _LONGEST_NUMBER:
            self._complain(path, node, f"is {text:.20}..., a number of {len(text)} characters: write a shorter one")
            return text
        number = math.nan if _NOT_JSON.match(text) else self._number(text)
        if math.isfinite(number):
            return number
        self._complain(path, node, f"is {text}, and neither NaN nor infinity is a number here: write a finite one")
        return text

    @staticmethod
    def _number(text: str) -> int | float:
        plain = text.replace("_", "")
        if _INT.match(text):
            return int(plain, 8 if re.match(r"^[-+]?0[0-7]+$", plain) else 0)
        number = float(plain)
        # A whole number stays one on its way through JSON: kubectl sends 3 for 3.0 and 1000 for 1e3.
        return int(number) if number.is_integer() and abs(number) < 1e21 else number

    def _complain(self, path: Path, node: yaml.Node, message: str) -> None:
        self._document.problems.append(Problem(path, message, node.start_mark.line + 1))
