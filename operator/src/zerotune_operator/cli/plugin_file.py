"""A plug-in in a ConfigMap that the file of a job brings along: it is looked at as one on this machine is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.python_source import functions_of, require_source
from zerotune_trainer.errors import InputMissingError


def check_config_map(job: Job, documents: Iterable[Job | dict[str, Any]]) -> None:
    """See that the ConfigMap of a job's plug-in defines what the job uses of it. One that the file does not hold is not
    asked for.

    Args:
        job: The job.
        documents: What its file holds.

    Raises:
        InputMissingError: the ConfigMap has no such key, or its text does not define a function.
        ConfigurationError: its text is not Python, or a function of it cannot be called as the job calls it.
    """
    key = job.spec.plugin.config_map if job.spec.plugin else None
    if key is None:
        return
    for document in documents:
        if isinstance(document, dict) and _identity(document) == ("ConfigMap", job.metadata.namespace, key.name):
            data = document.get("data") or {}
            if key.key not in data:
                raise InputMissingError(
                    f"plugin.configMap: ConfigMap {key.name} has no key {key.key!r}",
                    f"it has {', '.join(data) or 'none'}: name one of them as plugin.configMap.key",
                )
            require_source("plugin.configMap", f"{key.name}/{key.key}", str(data[key.key]), functions_of(job))


def _identity(document: dict[str, Any]) -> tuple[Any, Any, Any]:
    metadata = document.get("metadata") or {}
    return document.get("kind"), metadata.get("namespace") or "default", metadata.get("name")
