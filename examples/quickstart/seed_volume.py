"""Prints a claim and a Job that fills it with a small model and texts of the CWE catalogue:

    python examples/quickstart/seed_volume.py | kubectl apply -f -

Two pods on two nodes can both mount a claim only if it is ReadWriteMany: `--access-mode ReadWriteMany`.
Your own model and data are on a claim, in S3 or on the Hub already: then you need none of this.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from catalogue import read_catalogue, split
from prepare import conversations, held_out_questions, texts

CLAIM = "cwe"
IMAGE = "zerotune.dev/trainer:0.1.0"
USER = 65532
TRAINED_ON, HELD_OUT = 60, 12
"""Weaknesses; few, as what pods are given this way has to fit into a ConfigMap and its annotation."""

Object = dict[str, Any]


def catalogue_files(trained_on: int, held_out: int) -> dict[str, str]:
    """The files of `data/`, by name."""
    train, asked = split(read_catalogue(), held_out)
    train = train[:trained_on]
    return {
        "cpt-train.jsonl": as_jsonl(texts(train)),
        "sft-train.jsonl": as_jsonl(conversations(train)),
        "questions.jsonl": as_jsonl(held_out_questions(asked)),
    }


def as_jsonl(records: Iterable[Object]) -> str:
    """A record a line."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def main() -> None:
    """Print the objects that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default=IMAGE, help="the trainer's image; default: %(default)s")
    parser.add_argument(
        "--access-mode",
        choices=["ReadWriteOnce", "ReadWriteMany"],
        default="ReadWriteOnce",
        help="of the claim; default: %(default)s",
    )
    parser.add_argument("--storage-class", help="of the claim; default: the one that the cluster has for its default")
    weaknesses = "weaknesses of the catalogue to %s; default: %%(default)s"
    parser.add_argument("--trained-on", type=int, default=TRAINED_ON, help=weaknesses % "train on")
    parser.add_argument("--held-out", type=int, default=HELD_OUT, help=weaknesses % "ask about")
    options = parser.parse_args()
    files = catalogue_files(options.trained_on, options.held_out)
    objects = volume_objects(files, options.image, options.access_mode, options.storage_class)
    json.dump({"apiVersion": "v1", "kind": "List", "items": objects}, sys.stdout, indent=1)


def volume_objects(
    files: Mapping[str, str],
    image: str,
    access_mode: str,
    storage_class: str | None,
) -> list[Object]:
    """The claim, and the Job that fills it with `files` and a model."""
    scripts = [Path(__file__).with_name(name) for name in ("fill.py", "small_model.py")]
    data = {path.name: path.read_text(encoding="utf-8") for path in scripts} | dict(files)
    claim: Object = {"accessModes": [access_mode], "resources": {"requests": {"storage": "1Gi"}}}
    if storage_class:
        claim["storageClassName"] = storage_class
    template = {"spec": pod_spec("fill", ["python3", "/seed/fill.py", f"/{CLAIM}"], image)}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": claim},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seed"}, "data": data},
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "fill"},
            "spec": {"backoffLimit": 0, "template": template},
        },
    ]


def pod_spec(name: str, command: list[str], image: str) -> Object:
    """A pod with the claim and the seed, which Pod Security's `restricted` lets in."""
    container = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "claim", "mountPath": f"/{CLAIM}"}, {"name": "seed", "mountPath": "/seed"}],
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "claim", "persistentVolumeClaim": {"claimName": CLAIM}},
            {"name": "seed", "configMap": {"name": "seed"}},
        ],
    }


if __name__ == "__main__":
    main()
