"""Pairs and judged completions for the preference methods: texts of the quick start's data, cut to one size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from zerotune_devtools.benchmarks.step_workload import StepTraining
from zerotune_devtools.benchmarks.workload import RANKS

PROMPT, COMPLETION = 128, 376
"""Tokens. Together with the end token they stay below the model's 512 however the cut texts are joined again."""
METHODS = {
    "dpo": StepTraining("dpo", "pairs.jsonl"),
    "orpo": StepTraining("orpo", "pairs.jsonl"),
    # TRL's trainer takes two rows at least: it makes a mismatched completion of another row of the batch.
    "kto": StepTraining("kto", "judged.jsonl", 2),
}


def write_rows(work: Path, steps: int) -> None:
    """Write the rows of as many steps as the longest run takes."""
    count = RANKS * steps * max(training.batch for training in METHODS.values())
    texts = list(islice(_texts(work), 3 * count))
    triples = list(zip(texts[::3], texts[1::3], texts[2::3], strict=True))
    pairs = [{"prompt": a[0], "chosen": b[1], "rejected": c[1]} for a, b, c in triples]
    judged = [
        {"prompt": a[0], "completion": b[1], "label": number % 2 == 0} for number, (a, b, _) in enumerate(triples)
    ]
    for name, rows in (("pairs.jsonl", pairs), ("judged.jsonl", judged)):
        (work / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _texts(work: Path) -> Iterator[tuple[str, str]]:
    """A prompt and a completion, again and again: the catalogue is joined end to end, and begins anew at its end."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    lines = (work / "model").resolve().with_name("data").joinpath("cpt-train.jsonl").read_text().splitlines()
    ids = tokenizer("\n".join(json.loads(line)["text"] for line in lines))["input_ids"]
    size = PROMPT + COMPLETION
    while True:
        for start in range(0, len(ids) - size, size):
            prompt, completion = ids[start : start + PROMPT], ids[start + PROMPT : start + size]
            yield str(tokenizer.decode(prompt)), str(tokenizer.decode(completion))
