"""One test a case of the corpus."""

from __future__ import annotations

import pytest

from tests.unit.api.admission_cases import read_cases, read_plan_cases

FILES = {
    "valid_case": "valid.yaml",
    "invalid_case": "invalid.yaml",
    "changed_case": "changes.yaml",
    "unsupported_case": "unsupported.yaml",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, file in FILES.items():
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, read_cases(file), ids=lambda case: case.name)
    if "plan_case" in metafunc.fixturenames:
        metafunc.parametrize("plan_case", read_plan_cases(), ids=lambda case: case.name)
