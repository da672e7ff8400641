"""Runs in a pod of the trainer's image: fills a volume with a small model and the data that is mounted beside it.

    python3 /seed/fill.py /cwe

*.jsonl goes to /cwe/data; /cwe/model is a Llama and a tokenizer that has read cpt-train.jsonl.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from small_model import save_model


def main(work: Path) -> None:
    """Fill the volume, unless that was done."""
    if (work / "model").is_dir():
        return
    (work / "data").mkdir(exist_ok=True)
    for path in Path(__file__).parent.glob("*.jsonl"):
        shutil.copyfile(path, work / "data" / path.name)
    lines = (work / "data" / "cpt-train.jsonl").read_text(encoding="utf-8").splitlines()
    save_model(work / "model.partial", [json.loads(line)["text"] for line in lines])
    (work / "model.partial").rename(work / "model")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
