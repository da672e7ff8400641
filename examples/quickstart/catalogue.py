"""The CWE catalogue (Common Weakness Enumeration) of the package `cwe2`: as plain text, as questions with answers."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

DATABASE = Path(str(files("cwe2"))) / "database_v49"
CATALOGUE = DATABASE / "cwec_v4.14.xml"
NAMESPACE = {"cwe": "http://cwe.mitre.org/cwe-7"}
LONGEST_ANSWER = 500
"""Characters; what the catalogue says at greater length is left to pre-training."""


@dataclass(frozen=True)
class Weakness:
    """One entry of the catalogue."""

    number: int
    name: str
    description: str
    details: str
    phases: list[str]
    consequences: list[str]
    mitigations: list[str]
    detection: list[str]
    examples: list[str]


def read_catalogue(path: Path = CATALOGUE) -> list[Weakness]:
    """Every weakness that is not deprecated, in the catalogue's order."""
    catalogue = ElementTree.parse(path)  # noqa: S314  a file of an installed package
    entries = catalogue.iterfind("cwe:Weaknesses/cwe:Weakness", NAMESPACE)
    return [_weakness(entry) for entry in entries if entry.get("Status") != "Deprecated"]


def terms_of_use() -> str:
    """MITRE's notice and license, which every copy of the catalogue must carry."""
    notice = (DATABASE / "cwe.NOTICE").read_text(encoding="utf-8")
    terms = (DATABASE / "cwe-tou.LICENSE").read_text(encoding="utf-8")
    return f"{notice.strip()}\n\nTerms of Use: https://cwe.mitre.org/about/termsofuse.html\n\n{terms.strip()}\n"


def as_text(weakness: Weakness) -> str:
    """All there is about a weakness, for pre-training."""
    sections = [
        f"CWE-{weakness.number}: {weakness.name}",
        f"Description: {weakness.description}",
        weakness.details and f"Details: {weakness.details}",
        _section("Introduced during", [", ".join(weakness.phases)] if weakness.phases else []),
        _section("Consequences", weakness.consequences),
        _section("Mitigations", weakness.mitigations),
        _section("Detection", weakness.detection),
        _section("Seen in", weakness.examples),
    ]
    return "\n\n".join(section for section in sections if section)


def questions(weakness: Weakness) -> Iterator[tuple[str, str]]:
    """Questions about a weakness, each with the catalogue's answer."""
    called = f"CWE-{weakness.number} ({weakness.name})"
    yield f"What is {called}?", weakness.description
    if weakness.phases:
        yield f"When is {called} introduced?", f"During {' and '.join(weakness.phases)}."
    if weakness.consequences:
        yield f"What are the consequences of {called}?", weakness.consequences[0]
    if weakness.mitigations:
        yield f"How can {called} be mitigated?", weakness.mitigations[0]


def split(weaknesses: list[Weakness], held_out: int, seed: int = 42) -> tuple[list[Weakness], list[Weakness]]:
    """Set `held_out` weaknesses aside: the model never sees a word of them."""
    shuffled = random.Random(seed).sample(weaknesses, len(weaknesses))  # noqa: S311  not for secrets
    return shuffled[held_out:], shuffled[:held_out]


def _weakness(entry: ElementTree.Element) -> Weakness:
    return Weakness(
        number=int(entry.attrib["ID"]),
        name=entry.attrib["Name"],
        description=_text(entry.find("cwe:Description", NAMESPACE)),
        details=_text(entry.find("cwe:Extended_Description", NAMESPACE)),
        phases=list(dict.fromkeys(_texts(entry, "Modes_Of_Introduction/cwe:Introduction/cwe:Phase"))),
        consequences=[_consequence(found) for found in _all(entry, "Common_Consequences/cwe:Consequence")],
        mitigations=_texts(entry, "Potential_Mitigations/cwe:Mitigation/cwe:Description"),
        detection=_texts(entry, "Detection_Methods/cwe:Detection_Method/cwe:Description"),
        examples=_texts(entry, "Observed_Examples/cwe:Observed_Example/cwe:Description"),
    )


def _consequence(entry: ElementTree.Element) -> str:
    scopes, impacts = (", ".join(_texts(entry, name)) for name in ("Scope", "Impact"))
    note = _text(entry.find("cwe:Note", NAMESPACE))
    return f"{scopes}: {impacts}. {note}".strip()


def _all(entry: ElementTree.Element, path: str) -> list[ElementTree.Element]:
    return entry.findall(f"cwe:{path}", NAMESPACE)


def _texts(entry: ElementTree.Element, path: str) -> list[str]:
    return [_text(found) for found in _all(entry, path)]


def _text(element: ElementTree.Element | None) -> str:
    """All text in an element, its spaces and line breaks made single spaces."""
    return "" if element is None else re.sub(r"\s+", " ", " ".join(element.itertext())).strip()


def _section(title: str, lines: list[str]) -> str:
    return f"{title}:\n" + "\n".join(f"- {line}" for line in lines) if lines else ""
