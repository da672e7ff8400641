"""Characters that no argument, path or variable can hold are rejected wherever a spec has them."""

from __future__ import annotations

from typing import Any

import pytest

from zerotune_operator.api.load import parse_job, read_job
from zerotune_trainer.errors import ConfigurationError


def _manifest(path: str, value: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "model": {"uri": "s3://models/m"},
        "data": {"uris": ["s3://records/a.jsonl"]},
        "output": {"uri": "s3://answers/a"},
    }
    part = spec
    *parents, last = path.split("/")
    for parent in parents:
        part = part.setdefault(parent, {})
    part[last] = value
    return {
        "apiVersion": "zerotune.dev/v1alpha1",
        "kind": "InferenceJob",
        "metadata": {"name": "answers"},
        "spec": spec,
    }


_FIELDS = [
    *("model/uri", "output/uri", "data/systemPrompt", "topology/accelerator/product", "backend/kubernetes/image"),
    *("backend/kubernetes/metadata/annotations/example.com~1team", "backend/kubernetes/pod/spec/hostname"),
]


@pytest.mark.parametrize("read", [parse_job, read_job])
@pytest.mark.parametrize("field", _FIELDS)
@pytest.mark.parametrize("control", ["\x00", "\x1b", "\x7f"], ids=ascii)
def test_a_control_character_is_rejected_with_its_field(field: str, control: str, read: Any) -> None:
    with pytest.raises(ConfigurationError) as rejected:
        read(_manifest(field, f"pvc://claim/a{control}b"))
    assert f"spec.{field.replace('/', '.')} is 'pvc://claim/a" in rejected.value.message
    assert f"leave out the control character {control!a}" in rejected.value.message


@pytest.mark.parametrize("mark", ["\u202e", "\u2066", "\u200f", "\ufeff", "\u200b"], ids=ascii)
@pytest.mark.parametrize("field", ["model/uri", "output/uri"])
def test_a_uri_holds_nothing_that_is_not_seen_or_turns_the_text(field: str, mark: str) -> None:
    with pytest.raises(ConfigurationError, match="leave out the control character"):
        parse_job(_manifest(field, f"pvc://claim/a{mark}b"))


def test_prompts_have_lines_tabs_and_any_direction_of_writing() -> None:
    read_job(_manifest("data/systemPrompt", "a\tb\r\n\u200f\u0639"))
