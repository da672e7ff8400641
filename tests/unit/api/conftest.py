"""The corpus of manifests, one test a case. The cases are files so that a real API server can be given the same."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from zerotune_operator.api.manifest_yaml import read_documents

CORPUS = Path(__file__).parent / "corpus"
FILES = {"valid_case": "valid.yaml", "invalid_case": "invalid.yaml", "changed_case": "changes.yaml"}


def _read(name: str) -> Any:
    (document,) = read_documents((CORPUS / name).read_text())
    assert not document.problems
    return document.value


@dataclass(frozen=True)
class Case:
    """A manifest, what it was made from, and what is expected to be wrong with it: place and a piece of the message."""

    name: str
    base: dict[str, Any]
    manifest: dict[str, Any]
    expect: dict[str, str]


def _cases(file: str) -> list[Case]:
    bases = _read("base.yaml")
    cases = []
    for entry in _read(file):
        base = bases[entry.get("kind", "FineTuneJob")]
        manifest = copy.deepcopy(base)
        for path, value in entry.get("set", {}).items():
            _set(manifest, path.split("."), value)
        cases.append(Case(entry["name"], base, manifest, entry.get("expect", {})))
    return cases


def _set(part: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        part = part.setdefault(name, {})
    if value is None:
        del part[path[-1]]
    else:
        part[path[-1]] = None if value == "~empty" else value


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, file in FILES.items():
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, _cases(file), ids=lambda case: case.name)
