"""`backend.kubernetes.pod` over the generated pod template: a strategic merge patch. Pure.

As `kubectl patch --type strategic` does it: objects are merged, null takes a field away, a list is replaced as a whole
but for those below, whose items are merged where they have the same keys. An item with `$patch: delete` takes that item
away, an item `{$patch: replace}` lets the other ones replace the list; `$patch: replace` in an object makes it replace
ours; `$retainKeys` names what an object keeps. New items come after ours, in the order they were given. What the API
server would drop without a word is rejected.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zerotune_operator.backends.kubernetes.merge_keys import KEY_DEFAULTS, MERGE_KEYS, UNIONS
from zerotune_operator.backends.kubernetes.objects import Object, is_own_key
from zerotune_trainer.errors import ConfigurationError

_FIELD = "backend.kubernetes.pod"

_SECTIONS = ("metadata", "spec")
_METADATA = ("labels", "annotations")

_OURS = {
    "restartPolicy": "a pod that failed is not started anew by itself: the whole attempt is, by runPolicy.maxRestarts",
    "subdomain": "pods find each other by it",
    "hostname": "pods find each other by it",
    "hostnameOverride": "pods find each other by their hostname",
    "setHostnameAsFQDN": "pods know themselves by their short name",
}
"""Fields of a pod that the job depends on, and why."""
_IDENTIFIES = "cannot be set: it identifies the pod to the launcher"
_RESTARTS = {"containers": (None, "Never"), "initContainers": (None, "Never", "Always")}
"""The restart policies that a container may have: an init container that is always restarted is a native sidecar."""


def apply_overlay(template: Object, patch: Object, container: str) -> Object:
    """The template with a user's own settings.

    Args:
        template: Ours: metadata and spec.
        patch: The user's.
        container: Name of the container that does the job's work.

    Raises:
        ConfigurationError: the patch is none, or takes away what the job depends on.
    """
    for problem in _unknown(patch):
        raise problem
    merged = _with_ours(template, merge(template, patch))
    for problem in _broken(template, merged, container):
        raise problem
    return merged


def merge(original: Object, patch: Object, path: str = "") -> Object:
    """`original` with a strategic merge patch; neither is changed.

    Args:
        original: A pod template, or a part of it.
        patch: The patch.
        path: Where in the template this is.

    Raises:
        ConfigurationError: a part of the patch is of another type than what it is merged with, or a directive is none.
    """
    directive = patch.get("$patch", "merge")
    _require(directive in ("merge", "replace", "delete"), path, f"has $patch: {directive}", "use replace or delete")
    if directive == "delete":
        return {}
    kept = patch.get("$retainKeys", list(original))
    are_names = isinstance(kept, list) and all(isinstance(name, str) for name in kept)
    _require(are_names, path, f"has $retainKeys: {kept!r:.80}", "write a list of names of fields")
    kept = _of_union(kept, patch, path)
    merged = {} if directive == "replace" else {name: value for name, value in original.items() if name in kept}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif name not in ("$patch", "$retainKeys"):
            where = f"{path}.{name}".removeprefix(".")
            _require(not name.startswith("$"), where, "is no directive known here", "use $patch or $retainKeys")
            if name in merged or not _is_idle(value, where):
                merged[name] = _merge_value(merged.get(name), value, where)
    return merged


def _is_idle(value: Any, path: str) -> bool:
    """Whether a value that stands where we have nothing is a directive. The API server drops it whole, also what is to
    replace ours.
    """
    directive = value.get("$patch") if isinstance(value, dict) else None
    nothing = "has $patch: replace, and the pod has nothing there that it could replace"
    _require(directive != "replace", path, nothing, "leave `$patch: replace` out: the fields are taken without it")
    return directive == "delete"


def _merge_value(original: Any, patch: Any, path: str) -> Any:
    if path in MERGE_KEYS:
        return _merge_items(original or [], patch, MERGE_KEYS[path], path)
    if isinstance(patch, dict):
        return merge(original if isinstance(original, dict) else {}, patch, path)
    _require(not isinstance(original, dict), path, f"is {patch!r}", "write an object: fields and their values")
    return patch


def _of_union(kept: list[str], patch: Object, path: str) -> list[str]:
    """The fields that an object keeps: of a union no other member than those of the patch."""
    if path not in UNIONS:
        return kept
    members = {name for name, value in patch.items() if value is not None and not name.startswith("$")} - UNIONS[path]
    return [name for name in kept if not members or name in members | UNIONS[path]]


def _merge_items(original: list[Object], patch: Any, keys: tuple[str, ...], path: str) -> list[Object]:
    """A list whose items are merged where they have the same keys."""
    named_by = " and ".join(keys)
    _require(isinstance(patch, list), path, f"is {patch!r:.80}", f"write a list of objects, each with its {named_by}")
    replaced = {"$patch": "replace"} in patch
    merged: dict[tuple[Any, ...], Object] = {} if replaced else {_identity_of(each, keys): each for each in original}
    for item in patch:
        if item == {"$patch": "replace"}:
            continue
        identity = _identity_of(item, keys) if isinstance(item, dict) else (None,)
        named = all(isinstance(part, str | int) for part in identity)
        _require(named, path, f"has the item {item!r:.80} without {named_by}", f"say which one it is by its {named_by}")
        alone = "write {$patch: replace} as an item of its own to replace the list, or $retainKeys in this one"
        _require(item.get("$patch") != "replace", path, f"has the item {item!r:.80}, which the API server drops", alone)
        before = merged.get(identity, {})
        if item.get("$patch") == "delete":
            merged.pop(identity, None)
        else:
            merged[identity] = merge(before, item, path)
    return list(merged.values())


def _identity_of(item: Object, keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(item.get(key, KEY_DEFAULTS.get(key)) for key in keys)


def _with_ours(template: Object, merged: Object) -> Object:
    """The merged template with our tolerations: the list has no keys, and the user's would replace it. Of two that are
    about the same taints, the user's counts.
    """
    spec = dict(merged.get("spec", {}))
    ours, theirs = template["spec"].get("tolerations", []), spec.get("tolerations", [])
    if theirs != ours:
        kept = [each for each in ours if not any(_tolerates_alike(each, own) for own in theirs)]
        spec["tolerations"] = [*theirs, *kept]
    return merged | {"spec": spec}


def _tolerates_alike(ours: Object, theirs: Object) -> bool:
    """Whether a toleration is about the taints of another one; without an effect it is about all of them."""
    return bool(theirs.get("key") == ours["key"] and theirs.get("effect", ours["effect"]) == ours["effect"])


def _unknown(patch: Object) -> Iterator[ConfigurationError]:
    """What no template can have."""
    for section, value in patch.items():
        if section not in _SECTIONS:
            yield _error(section, "is no part of a pod template", f"write {' or '.join(_SECTIONS)}")
        elif not isinstance(value, dict):
            yield _error(section, f"is {value!r:.80}", "write an object: fields and their values")
    for name in patch.get("metadata", {}):
        if name not in _METADATA:
            yield _error(f"metadata.{name}", "cannot be set on a pod", f"set {' or '.join(_METADATA)} only")


def _broken(template: Object, merged: Object, container: str) -> Iterator[ConfigurationError]:
    """What the patch did to fields that the job depends on."""
    labels = merged["metadata"].get("labels", {})
    for name, value in template["metadata"]["labels"].items():
        if is_own_key(name) and labels.get(name) != value:
            reason = f"is {labels.get(name)!r}, but pods are found by it: it is {value!r}"
            yield _error(f"metadata.labels[{name}]", reason, "leave it out")
    for name, reason in _OURS.items():
        if merged["spec"].get(name) != template["spec"].get(name):
            yield _error(f"spec.{name}", f"cannot be set: {reason}", "leave it out")
    if not any(each["name"] == container for each in merged["spec"].get("containers", [])):
        yield _error("spec.containers", f"takes away the container {container!r}", "keep it: it does the job's work")
    yield from _restarted(merged)
    yield from _misidentified(template, merged, container)


def _restarted(merged: Object) -> Iterator[ConfigurationError]:
    """Containers that the kubelet would start anew by themselves, past the restart policy of their pod."""
    for kind, allowed in _RESTARTS.items():
        for each in merged["spec"].get(kind, []):
            place = f"spec.{kind}[{each['name']}]"
            if each.get("restartPolicy") not in allowed:
                sidecar = "leave it out; a sidecar is an init container with restartPolicy: Always"
                yield _error(f"{place}.restartPolicy", f"cannot be set: {_OURS['restartPolicy']}", sidecar)
            if each.get("restartPolicyRules"):
                yield _error(f"{place}.restartPolicyRules", f"cannot be set: {_OURS['restartPolicy']}", "leave it out")


def _misidentified(template: Object, merged: Object, container: str) -> Iterator[ConfigurationError]:
    """What the patch did to that which identifies a pod."""
    annotations = merged["metadata"].get("annotations", {})
    for name, value in template["metadata"].get("annotations", {}).items():
        if is_own_key(name) and annotations.get(name) != value:
            yield _error(f"metadata.annotations[{name}]", _IDENTIFIES, "leave it out")
    given, left = (_identity(each["spec"], container) for each in (template, merged))
    for name, variable in given.items():
        if left.get(name) != variable:
            yield _error(f"spec.containers.env[{name}]", _IDENTIFIES, "leave it out")


def _identity(spec: Object, container: str) -> dict[str, Object]:
    """The variables that identify a pod to the launcher, by name."""
    found = [each for each in spec.get("containers", []) if each["name"] == container]
    variables = [variable for each in found for variable in each.get("env", [])]
    return {each["name"]: each for each in variables if each["name"].startswith("ZEROTUNE_")}


def _require(good: bool, path: str, problem: str, remedy: str) -> None:
    if not good:
        raise _error(path, problem, remedy)


def _error(path: str, problem: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{'.'.join(filter(None, (_FIELD, path)))} {problem}", remedy)
