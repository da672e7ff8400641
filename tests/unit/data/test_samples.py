"""Prompts that are given to a model in training, and the metrics of what it generates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from tests.unit.data.conftest import write_jsonl
from zerotune_trainer.config.plugin import PluginFile
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError, ZerotuneError
from zerotune_trainer.plugin import PluginError, load_plugin
from zerotune_trainer.progress import MOST_FIGURES
from zerotune_trainer.reporting.results import generation_figures
from zerotune_trainer.samples.metrics import load_metrics
from zerotune_trainer.samples.prompts import read_prompts

MODEL = LlamaConfig(vocab_size=1000, max_position_embeddings=64)
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
ASKED = {"role": "user", "content": "why"}
SYSTEM = {"role": "system", "content": "be brief"}
ANSWER = {"role": "assistant", "content": "so"}


@pytest.fixture
def prompts_of(make_config: Any, tokenizer: Any, tmp_path: Path) -> Any:
    """The prompts of records, each with its text and reference."""
    tokenizer.chat_template = CHAT

    def read(records: list[dict[str, Any]], *, plugin: Any = None, data: Any = None, **generation: Any) -> Any:
        path = write_jsonl(tmp_path / "prompts.jsonl", records)
        generation = {"data": {"uris": [f"file://{path}"]}, "maxNewTokens": 8, **generation}
        config = make_config([{"text": "x"}], plugin=plugin, evaluation={"generation": generation}, **(data or {}))
        settings = config.evaluation.generation
        return [(each.text, each.reference) for each in read_prompts(config, settings, tokenizer, MODEL)]

    return read


@pytest.mark.parametrize(
    ("record", "generation", "expected"),
    [
        ({"prompt": "why", "completion": "so"}, {}, ("why", "so")),
        ({"prompt": "why", "chosen": "so", "rejected": "no"}, {}, ("why", "so")),
        ({"q": "why", "a": "so"}, {"columns": {"prompt": "q", "completion": "a"}}, ("why", "so")),
        ({"prompt": "why"}, {}, ("why", None)),
        ({"messages": [ASKED, ANSWER]}, {}, ("<system>be brief<user>why<assistant>", "so")),
        ({"prompt": [ASKED], "completion": [ANSWER]}, {}, ("<system>be brief<user>why<assistant>", "so")),
        ({"chat": [SYSTEM, ASKED]}, {"columns": {"messages": "chat"}}, ("<system>be brief<user>why<assistant>", None)),
    ],
)
def test_a_record_is_divided_into_prompt_and_answer(
    prompts_of: Any, record: dict[str, Any], generation: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    assert prompts_of([record, record], data={"systemPrompt": "be brief"}, maxSamples=1, **generation) == [expected]


def test_the_function_of_the_plug_in_comes_first(prompts_of: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def up(record): return {'prompt': record['p'].upper()}")
    assert prompts_of([{"p": "why"}], plugin={"file": f"file://{tmp_path}/mine.py", "processing": "up"}) == [
        ("WHY", None)
    ]


@pytest.mark.parametrize(
    ("record", "generation", "error", "message"),
    [
        ({"prompt": "why"}, {"metrics": ["exact_match"]}, DataError, "prompts.jsonl:1: the record has no answer"),
        ({"messages": [ASKED]}, {"metrics": ["rouge"]}, DataError, "the record has no answer"),
        ({"text": "why"}, {}, InputMissingError, "the records have no column 'messages' or 'prompt'"),
        ({"prompt": "why " * 80}, {}, DataError, "prompts.jsonl:1: the prompt has .* tokens, at most 56 fit"),
        (
            {"prompt": "why"},
            {"maxNewTokens": 64},
            ConfigurationError,
            "leaves no token for a prompt in the model's context of 64",
        ),
    ],
)
def test_a_record_that_gives_no_prompt_is_named_before_training(
    prompts_of: Any, record: dict[str, Any], generation: dict[str, Any], error: type[ZerotuneError], message: str
) -> None:
    with pytest.raises(error, match=message):
        prompts_of([record], **generation)


def measured(names: list[str], plugin: Any = None) -> dict[str, float]:
    predictions, references = ["The cat sat on the mat", " so "], ["a cat sat on a mat", "so"]
    return {
        name: value for metric in load_metrics(names, plugin) for name, value in metric(predictions, references).items()
    }


@pytest.mark.slow
def test_exact_match_and_rouge() -> None:
    """ROUGE of the first pair by hand: 4 of 6 words, 2 of 5 pairs of words, and a common sequence of 4 words."""
    found = measured(["exact_match", "rouge"])
    expected = {"exact_match": 1 / 2, "rouge1": (2 / 3 + 1) / 2, "rouge2": (2 / 5 + 0) / 2, "rougeL": (2 / 3 + 1) / 2}
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("lambda predictions, references: len(predictions)", {"mine": 2.0}),
        ("lambda p, r: {'first': p[0] == r[0], 'other': 0.5}", {"mine_first": 0.0, "mine_other": 0.5}),
        ("lambda p, r: float('nan')", "returned nan for 2 generated texts"),
        ("lambda p, r: 'good'", "returned 'good'"),
        ("lambda p, r: {str(n): n for n in range(17)}", "returned {'0': 0"),
        ("lambda p, r: p[7]", r"mine.py:mine failed for 2 generated texts: IndexError.* \(line 1\)"),
        ("lambda p, r: {'a b': 1}", "returned {'a b': 1}"),
        ("lambda p, r: {}", "returned {} for 2 generated texts"),
        ("lambda p: 1", "cannot be called: too many positional arguments"),
    ],
)
def test_a_function_of_the_plug_in_measures(tmp_path: Path, code: str, expected: Any) -> None:
    (tmp_path / "mine.py").write_text(f"mine = {code}")
    plugin = load_plugin(PluginFile(file=f"file://{tmp_path}/mine.py"))
    if isinstance(expected, dict):
        assert measured(["mine"], plugin) == expected
    else:
        with pytest.raises(ConfigurationError, match=expected) as caught:
            measured(["mine"], plugin)
        assert isinstance(caught.value, PluginError) == ("cannot be called" not in expected)


def test_a_metric_that_changes_the_texts_changes_them_for_no_other(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def mine(p, r):\n    p.clear()\n    r[:] = ['so']\n    return 1.0")
    plugin = load_plugin(PluginFile(file=f"file://{tmp_path}/mine.py"))
    assert measured(["mine", "exact_match"], plugin) == {"mine": 1.0, "exact_match": 0.5}


def test_the_status_gets_the_first_figures() -> None:
    figures = {f"generation/{number}": float(number) for number in range(100)}
    found = generation_figures({"rewards/margins": 1.0, **figures})
    assert found is not None and list(found) == [str(number) for number in range(MOST_FIGURES)]
    assert generation_figures({"rewards/margins": 1.0}) is None and json.dumps(found)
