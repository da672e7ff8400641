from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from huggingface_hub import ModelCard

from zerotune_trainer.config.jobs import TrainConfig
from zerotune_trainer.reporting.card import write_card
from zerotune_trainer.reporting.results import read_results

WriteRun = Callable[..., TrainConfig]


def card_of(folder: Path, config: TrainConfig, model_folder: Path | None = None) -> ModelCard:
    write_card(folder, config, read_results(folder), model_folder or folder / "base")
    return ModelCard.load(folder / "README.md")


def test_metadata_is_what_the_hub_reads(write_run: WriteRun, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: other\nlicense_name: my-terms\nlanguage: en\n---\n# Base\n")
    config = write_run([], results={"evalLoss": 3.0, "perplexity": 20.5, "firstPerplexity": 900.0})
    card = card_of(tmp_path, config, base)
    dataset = {"name": f"file://{tmp_path}/data/train.jsonl", "type": "custom", "split": "validation"}
    metrics = [{"type": "perplexity", "value": 20.5}, {"type": "loss", "value": 3.0}]
    result = {"task": {"type": "text-generation"}, "dataset": dataset, "metrics": metrics}
    assert card.data.to_dict() == {
        "base_model": "example/base",
        "license": "other",
        "license_name": "my-terms",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["zerotune", "deepspeed", "cpt"],
        "model-index": [{"name": "secure-llama", "results": [result]}],
    }


def test_what_is_not_known_is_left_out(write_run: WriteRun, tmp_path: Path) -> None:
    card = card_of(tmp_path, write_run([], {"model": {"uri": "file:///models/mine"}}))
    assert set(card.data.to_dict()) == {"library_name", "pipeline_tag", "tags", "model_name"}


def test_text_reports_data_training_results_and_use(write_run: WriteRun, tmp_path: Path) -> None:
    results = {"perplexity": 20.5, "firstPerplexity": 900.0, "counts": {"train": {"records": 12, "skipped": 3}}}
    plugin = {"file": "file:///code/clean.py", "processing": "clean", "callbacks": ["Watch"]}
    data = {"train": {"uris": ["file:///d/a.jsonl"]}, "columns": {"text": "body"}}
    text = card_of(tmp_path, write_run([], {"data": data, "method": "sft", "plugin": plugin}, results)).text
    for expected in (
        "`hf://example/base` after supervised fine-tuning",
        "- Trained on: `file:///d/a.jsonl`\n",
        "- Column `body`: text\n",
        "- Code of the user's: `clean`, `Watch` of `file:///code/clean.py`",
        "| Count | Train |\n| --- | ---: |\n| Records | 12 |\n| Skipped | 3 |\n",
        "on 4 ranks (cpu) of 2 hosts",
        "| learningRate | 0.002 |\n",
        "| Perplexity | 900 | 20.5 |\n",
        f'from_pretrained("{tmp_path}")',
        "apply_chat_template",
        "## Limits",
    ):
        assert expected in text


def test_terms_beside_the_data_are_passed_on(write_run: WriteRun, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.jsonl").touch()
    (data / "NOTICE.txt").write_text("Copyright the authors.\n```\nKeep this.\n")
    text = card_of(tmp_path, write_run([])).text
    assert "`NOTICE.txt` beside the data says:\n\n````text\nCopyright the authors.\n```\nKeep this.\n````\n" in text


def test_values_do_not_break_out_of_tables_or_code(write_run: WriteRun, tmp_path: Path) -> None:
    uris = ["file:///d/a`b.jsonl"]
    text = card_of(
        tmp_path, write_run([], {"data": {"train": {"uris": uris}}}, {"counts": {"train": {"a|b\nc": 1}}})
    ).text
    assert "`` file:///d/a`b.jsonl ``" in text
    assert r"| A\|b c | 1 |" in text


def test_text_says_that_the_base_was_quantized_and_how(write_run: WriteRun, tmp_path: Path) -> None:
    text = card_of(tmp_path, write_run([], {"adapter": {"type": "qlora"}})).text
    assert "The model was quantized (nf4) while it was trained, and the figures below are of that." in text
    assert "| adapter.quantization | nf4 |\n" in text
    assert "quantized" not in card_of(tmp_path, write_run([], {"adapter": {"type": "lora"}})).text
