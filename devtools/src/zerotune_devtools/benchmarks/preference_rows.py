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
    # TRL's trainer takes two rows at least, in the order of the file: it mismatches the completions of a batch.
    "kto": StepTraining("kto", "judged.jsonl", 2, "sequential"),
}


def write_rows(work: Path, steps: int) -> None:
    """Write the rows of as many steps as the longest run takes."""
    count = RANKS * steps * max(training.batch for training in METHODS.values())
    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    triples = _triples(work, tokenizer)
    pairs = [
        {"prompt": prompt, "chosen": chosen, "rejected": other} for prompt, chosen, other in islice(triples, count)
    ]
    # One completion for all: TRL mismatches the completions of a batch, ours are those of neighbouring rows.
    _, same, _ = next(triples)
    prompts = islice((prompt for prompt, _, _ in triples if _is_apart(tokenizer, prompt, same)), count)
    judged = [{"prompt": prompt, "completion": same, "label": number % 2 == 0} for number, prompt in enumerate(prompts)]
    for name, rows in (("pairs.jsonl", pairs), ("judged.jsonl", judged)):
        (work / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _triples(work: Path, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[str, str, str]]:
    """Prompts, with two completions each."""
    texts = _texts(work, tokenizer)
    while True:
        (prompt, _), (_, chosen), (_, rejected) = islice(texts, 3)
        if _is_apart(tokenizer, prompt, chosen) and _is_apart(tokenizer, prompt, rejected):
            yield prompt, chosen, rejected


def _is_apart(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> bool:
    """Whether no token is both the prompt's and the completion's: TRL would cut the prompt through it."""
    opening: list[int] = tokenizer(prompt)["input_ids"]
    return bool(tokenizer(prompt + completion)["input_ids"][: len(opening)] == opening)


def _texts(work: Path, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[str, str]]:
    """A prompt and a completion, again and again: the catalogue is joined end to end, and begins anew at its end."""
    lines = (work / "model").resolve().with_name("data").joinpath("cpt-train.jsonl").read_text().splitlines()
    ids = tokenizer("\n".join(json.loads(line)["text"] for line in lines))["input_ids"]
    size = PROMPT + COMPLETION
    while True:
        for start in range(0, len(ids) - size, size):
            prompt, completion = ids[start : start + PROMPT], ids[start + PROMPT : start + size]
            yield str(tokenizer.decode(prompt)), str(tokenizer.decode(completion))
