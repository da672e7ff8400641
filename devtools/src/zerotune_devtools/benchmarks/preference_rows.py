"""Pairs and judged completions for the preference methods: texts of the quick start's data, cut to one size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

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
    triples = list(islice(_triples(work), count))
    pairs = [{"prompt": prompt, "chosen": chosen, "rejected": rejected} for prompt, chosen, rejected in triples]
    judged = [
        {"prompt": prompt, "completion": completion, "label": number % 2 == 0}
        for number, (prompt, completion, _) in enumerate(triples)
    ]
    for name, rows in (("pairs.jsonl", pairs), ("judged.jsonl", judged)):
        (work / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _triples(work: Path) -> Iterator[tuple[str, str, str]]:
    """Prompts and two completions each, none of which shares a token with its prompt: of those TRL makes other rows,
    in which the prompt is cut through the token."""
    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    texts = _texts(work, tokenizer)
    while True:
        (prompt, _), (_, chosen), (_, rejected) = islice(texts, 3)
        opening = tokenizer(prompt)["input_ids"]
        if all(tokenizer(prompt + each)["input_ids"][: len(opening)] == opening for each in (chosen, rejected)):
            yield prompt, chosen, rejected


def _texts(work: Path, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[str, str]]:
    """A prompt and a completion, again and again: the catalogue is joined end to end, and begins anew at its end."""
    lines = (work / "model").resolve().with_name("data").joinpath("cpt-train.jsonl").read_text().splitlines()
    ids = tokenizer("\n".join(json.loads(line)["text"] for line in lines))["input_ids"]
    size = PROMPT + COMPLETION
    while True:
        for start in range(0, len(ids) - size, size):
            prompt, completion = ids[start : start + PROMPT], ids[start + PROMPT : start + size]
            yield str(tokenizer.decode(prompt)), str(tokenizer.decode(completion))
