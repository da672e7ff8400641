"""Jobs whose pods do not train (`stand_in`), many in one namespace. They run until they are deleted."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e import stand_in
from zerotune_devtools.harness.deadly_proxy import MODEL
from zerotune_devtools.harness.kubectl import Object


def model() -> Object:
    """The ConfigMap with the model that all of them name."""
    files = {"config.json": json.dumps(MODEL), "model.safetensors": ""}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "model"}, "data": files}


def stand_in_job(
    name: str,
    *,
    kubernetes: Object | None = None,
    pod: Object | None = None,
    container: Object | None = None,
    **sections: Any,
) -> Object:
    """A FineTuneJob of one node.

    Args:
        name: Its name.
        kubernetes: Fields of `backend.kubernetes`.
        pod: Fields of the pods' spec.
        container: Fields of their container.
        sections: Sections of the spec, in the place of those of the stand-in.
    """
    made = stand_in.job(inspected=True)
    made["metadata"]["name"] = name
    backend = made["spec"]["backend"]["kubernetes"]
    spec = backend["pod"]["spec"]
    spec["containers"][0] |= container or {}
    # A stand-in has nothing to save: it pays no heed to SIGTERM.
    spec |= {"terminationGracePeriodSeconds": 1} | (pod or {})
    backend |= kubernetes or {}
    made["spec"] |= sections
    return made
