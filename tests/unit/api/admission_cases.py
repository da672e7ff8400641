"""The corpus of manifests and number forms: the models are tested with it here, a real API server in tests/cluster."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerotune_operator.api.manifest_yaml import read_documents
from zerotune_operator.api.support import BackendName

CORPUS = Path(__file__).parent / "corpus"

SCALARS = {
    "2e-5": 2e-5,
    "2E-5": 2e-5,
    "-1e-3": -1e-3,
    "1e3": 1000,
    "3.0": 3,
    ".5": 0.5,
    "5.": 5,
    "+7": 7,
    "0x1F": 31,
    "0o17": 15,
    "017": 15,
    "0b11": 3,
    "1_000": 1000,
    "1:30": "1:30",
    "2026-11-24": "2026-11-24",
    "v1e5": "v1e5",
    "1e": "1e",
    "0xZZ": "0xZZ",
    "yes": True,
    "Off": False,
    "~": None,
    "null": None,
    "'2e-5'": "2e-5",
    '"yes"': "yes",
    "!!str 12": "12",
}
"""What a scalar is, by how it is written in YAML."""


@dataclass(frozen=True)
class Case:
    """A manifest, what it was made from, and what is expected to be wrong with it."""

    name: str
    base: dict[str, Any]
    manifest: dict[str, Any]
    expect: dict[str, str | list[str]]
    """By place, a piece of the message, or of each message there."""
    kubectl: str
    """A piece of the API server's message, where it says something else than is usual."""
    backend: BackendName = "kubernetes"
    """The backend that it is read for."""

    @property
    def complaints(self) -> list[tuple[str, str]]:
        """Place and piece of every complaint."""
        lists = {place: [pieces] if isinstance(pieces, str) else pieces for place, pieces in self.expect.items()}
        return [(place, piece) for place, pieces in lists.items() for piece in pieces]


@dataclass(frozen=True)
class PlanCase:
    """A manifest that is accepted and cannot be planned, and pieces of the message."""

    name: str
    manifest: dict[str, Any]
    model: str
    """The model's shape, by its name in tests/golden/plan/models."""
    message: str
    hint: str
    needs_model: bool
    """Whether it takes the model's shape to see it."""


def read_cases(file: str) -> list[Case]:
    """The cases of a file of the corpus."""
    return [
        Case(
            entry["name"],
            base,
            manifest,
            entry.get("expect", {}),
            kubectl=entry.get("kubectl", ""),
            backend=entry.get("backend", "kubernetes"),
        )
        for entry, base, manifest in _entries(file)
    ]


def read_plan_cases() -> list[PlanCase]:
    """The cases for which it takes a plan."""
    return [
        PlanCase(
            entry["name"],
            manifest,
            entry.get("model", "tiny-llama"),
            entry["message"],
            entry["hint"],
            needs_model="model" in entry,
        )
        for entry, _, manifest in _entries("plan/rejected.yaml")
    ]


def _entries(file: str) -> Iterator[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """Each entry with the manifest it starts from, and the changed one."""
    bases = _read("base.yaml")
    for entry in _read(file):
        base = copy.deepcopy(bases[entry.get("kind", "FineTuneJob")])
        for path, value in entry.get("from", {}).items():
            _set(base, path.split("."), value)
        manifest = copy.deepcopy(base)
        for path, value in entry.get("set", {}).items():
            _set(manifest, path.split("."), value)
        yield entry, base, manifest


def _read(name: str) -> Any:
    (document,) = read_documents((CORPUS / name).read_text())
    assert not document.problems
    return document.value


def _set(part: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        part = part.setdefault(name, {})
    if value is None:
        del part[path[-1]]
    else:
        part[path[-1]] = None if value == "~empty" else value
