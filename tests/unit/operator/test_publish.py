"""What is written of a status: what differs, and nothing where nothing does."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from zerotune_operator.controller.status_writer import event, merge_patch
from zerotune_operator.lifecycle.job_events import EventText

RESOURCE = {
    "apiVersion": "zerotune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "cpt", "namespace": "team", "uid": "1234"},
}
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

_leaves = st.integers() | st.text(max_size=3) | st.booleans() | st.lists(st.integers(), max_size=2)
_values = st.recursive(_leaves, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8)
_objects = st.dictionaries(st.sampled_from("abc"), _values, max_size=3)


def apply(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = apply(result.get(name), value)
    return result


@given(_objects, _objects)
def test_the_patch_makes_the_old_into_the_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert apply(old, merge_patch(old, new)) == new


@given(_objects)
def test_what_is_the_same_needs_no_patch(value: dict[str, Any]) -> None:
    assert merge_patch(value, value) == {}


def test_an_event_says_what_it_is_about_and_has_the_same_name_when_it_is_told_again() -> None:
    text = EventText("Warning", "Failed", "x" * 2000)
    told = event(RESOURCE, text, NOW)

    assert told == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": told["metadata"]["name"], "namespace": "team"},
        "involvedObject": {
            "apiVersion": "zerotune.dev/v1alpha1",
            "kind": "FineTuneJob",
            "name": "cpt",
            "namespace": "team",
            "uid": "1234",
        },
        "type": "Warning",
        "reason": "Failed",
        "message": "x" * 1024,
        "source": {"component": "zerotune"},
        "firstTimestamp": "2026-01-02T03:04:05Z",
        "lastTimestamp": "2026-01-02T03:04:05Z",
        "count": 1,
    }
    again = event(RESOURCE, text, NOW.replace(second=50))
    assert again["metadata"]["name"] == told["metadata"]["name"].strip()
    assert event(RESOURCE, EventText("Normal", "Started", ""), NOW)["metadata"]["name"] != told["metadata"]["name"]
