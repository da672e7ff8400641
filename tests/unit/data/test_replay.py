"""General text among the rows to train on: how much of it, which, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from tests.unit.data.conftest import MakeConfig, write_jsonl
from zerotune_trainer import data
from zerotune_trainer.data.replay import choose_replay
from zerotune_trainer.errors import InputMissingError

SIZES = np.array([10, 30, 20, 40], dtype=np.int32)


@pytest.fixture
def general(weaknesses: list[dict[str, str]], tmp_path: Path) -> Path:
    """Forty texts in a column `body`."""
    return write_jsonl(tmp_path / "general.jsonl", [{"body": row["text"]} for row in weaknesses[100:140]])


def texts(path: Path, **fields: Any) -> dict[str, Any]:
    return {"uris": [f"file://{path}"], "textColumn": "body", **fields}


def test_the_share_is_of_all_tokens() -> None:
    chosen = choose_replay(900, SIZES, 0.1, seed=1)

    assert sorted(chosen) == [0, 1, 2, 3]  # 100 of 1,000 tokens


def test_too_little_text_is_repeated_evenly() -> None:
    chosen = choose_replay(1000, SIZES, 0.5, seed=1)

    assert np.bincount(chosen).tolist() == [10, 10, 10, 10]


def test_there_is_at_least_one_row() -> None:
    assert len(choose_replay(10, SIZES, 0.001, seed=1)) == 1


def test_the_seed_decides() -> None:
    assert choose_replay(10_000, SIZES, 0.2, seed=1).tolist() == choose_replay(10_000, SIZES, 0.2, seed=1).tolist()
    assert choose_replay(10_000, SIZES, 0.2, seed=1).tolist() != choose_replay(10_000, SIZES, 0.2, seed=2).tolist()


@pytest.mark.parametrize(
    ("method", "packing"), [("cpt", "wrapped"), ("cpt", "bfd_split"), ("sft", "none"), ("sft", "bfd_split")]
)
def test_rows_of_general_text_stand_among_the_others(
    weaknesses: list[dict[str, str]],
    general: Path,
    make_config: MakeConfig,
    tokenizer: PreTrainedTokenizerFast,
    method: str,
    packing: str,
) -> None:
    """Whatever the rows are, general text is in blocks, and all of it counts in the loss."""
    options: dict[str, Any] = {"method": method, "packing": packing, "maxLength": 64}
    records = [{"text": row["text"][:80]} for row in weaknesses[:100]]
    alone = data.prepare(make_config(records, **options), tokenizer)
    prepared = data.prepare(make_config(records, **options, replay=texts(general, share=0.25)), tokenizer)

    counts = prepared.counts.replay
    assert counts is not None and counts.records == 40 and counts.loss_tokens == counts.tokens
    assert prepared.counts.train == alone.counts.train
    assert len(prepared.train) == len(alone.train) + counts.rows
    tokens = sum(len(row["input_ids"]) for row in prepared.train)
    assert counts.tokens / tokens == pytest.approx(0.25, abs=0.01)
    own = {row["input_ids"].tobytes() for row in alone.train}
    places = [place for place, row in enumerate(prepared.train) if row["input_ids"].tobytes() not in own]
    halves = [sum(place < len(prepared.train) / 2 for place in places), len(places)]
    assert halves[0] == pytest.approx(halves[1] / 2, abs=1)
    assert prepared.train.longest() <= 64
    assert prepared.digest != alone.digest


@pytest.mark.slow
def test_what_is_mixed_in_is_part_of_the_digest(
    weaknesses: list[dict[str, str]], general: Path, make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    records = [{"text": row["text"]} for row in weaknesses[:50]]
    configs = [
        make_config(records, method="cpt", replay=texts(general, share=0.1)),
        make_config(records, method="cpt", replay=texts(general, share=0.2)),
        make_config(records, method="cpt"),
    ]
    configs.append(configs[0].model_copy(update={"training": configs[0].training.model_copy(update={"seed": 8})}))
    control = configs[0].evaluation.model_validate({"control": texts(general)})
    configs.append(configs[0].model_copy(update={"evaluation": control}))

    digests = [data.prepare(config, tokenizer).digest for config in configs]

    assert len(set(digests)) == len(digests)
    assert data.prepare(configs[0], tokenizer).digest == digests[0]


def test_control_texts_are_rows_of_their_own(
    weaknesses: list[dict[str, str]], general: Path, make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Of conversations or of texts: a text whose every token counts, in blocks."""
    messages = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A weakness."}]
    config = make_config([{"messages": messages}] * 5, loss="assistant", maxLength=64)
    control = config.evaluation.model_validate({"control": texts(general)})
    prepared = data.prepare(config.model_copy(update={"evaluation": control}), tokenizer)

    assert prepared.control is not None and prepared.counts.control is not None
    assert list(prepared.splits) == ["train", "control"]
    assert prepared.counts.control.tokens == sum(len(row["labels"]) for row in prepared.control)
    assert all((row["labels"] == row["input_ids"]).all() for row in prepared.control)
    assert tokenizer.decode(prepared.control[0]["input_ids"]).startswith(f"<s>{weaknesses[100]['text'][:20]}")


def test_a_column_that_is_not_there_is_named(
    general: Path, make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    replay = {"uris": [f"file://{general}"], "share": 0.1}
    with pytest.raises(InputMissingError, match="no column 'text'"):
        data.prepare(make_config([{"text": "One."}] * 3, method="cpt", replay=replay), tokenizer)
