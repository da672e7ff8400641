"""The model card: `README.md` of an output folder, with the metadata the Hugging Face hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from zerotune_trainer.atomic import write_atomically
from zerotune_trainer.config.jobs import TrainConfig
from zerotune_trainer.config.training import all_records
from zerotune_trainer.reporting.figures import counts_table, final_figures
from zerotune_trainer.reporting.results import Results, read_topology

CARD_NAME = "README.md"
TERMS_NAMES = ("NOTICE*", "LICENSE*", "ATTRIBUTION*")
"""Files beside the data whose text the card repeats: terms of use often ask to be passed on."""


def write_card(folder: Path, config: TrainConfig, results: Results, model_folder: Path) -> Path:
    """Write the card of a finished run into its output folder; returns its path.

    Args:
        folder: the output folder; its `topology.json` is read.
        config: what the ranks were given.
        results: what the run came to.
        model_folder: the model it started from, whose own card names the license.

    Raises:
        InputMissingError: the folder has no `topology.json`.
    """
    topology = read_topology(folder)
    text = _ENVIRONMENT.get_template("card.md").render(
        metadata=_metadata(config, results, model_folder).to_yaml(),
        config=config,
        method=config.traits.title,
        figures=final_figures(results),
        counts=counts_table(results.counts),
        hyperparameters=_hyperparameters(config),
        terms=list(_terms(config)),
        ranks=len(topology),
        hosts=len({entry.host for entry in topology}),
        devices=sorted({entry.device.partition(":")[0] for entry in topology}),
        place=(config.output.uri or "").removeprefix("file://"),
    )
    path = folder / CARD_NAME
    write_atomically(path, text.encode())
    return path


def _metadata(config: TrainConfig, results: Results, model_folder: Path) -> ModelCardData:
    return ModelCardData(
        base_model=_hub_name(config.model.uri),
        library_name="peft" if config.adapter is not None and not config.adapter.merge else "transformers",
        pipeline_tag="text-generation",
        tags=["zerotune", "deepspeed", config.method],
        model_name=config.job.name,
        eval_results=_evaluation(config, results),
        **_license(model_folder),
    )


def _hub_name(uri: str | None) -> str | None:
    """`ORG/NAME` of an `hf://` model. The hub knows no others, so a folder is named in the text only."""
    return uri.removeprefix("hf://") if uri and uri.startswith("hf://") else None


def _license(model_folder: Path) -> dict[str, Any]:
    """What the card of the model trained says of its license."""
    path = model_folder / CARD_NAME
    if not path.is_file():
        return {}
    data = ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True).data
    return {name: data[name] for name in ("license", "license_name", "license_link") if name in data}


def _evaluation(config: TrainConfig, results: Results) -> list[EvalResult] | None:
    measured = {"perplexity": results.perplexity, "loss": results.eval_loss}
    source = config.data.validation or config.data.train
    found = [
        EvalResult(
            task_type="text-generation",
            dataset_type="custom",
            dataset_name=", ".join(source.uris),
            dataset_split="validation",
            metric_type=name,
            metric_value=value,
        )
        for name, value in measured.items()
        if value is not None
    ]
    return found or None


def _hyperparameters(config: TrainConfig) -> list[tuple[str, str]]:
    values = config.training.model_dump(mode="json", by_alias=True, exclude_none=True)
    adapter = config.adapter.model_dump(mode="json", by_alias=True, exclude_none=True) if config.adapter else {}
    if config.adapter and config.adapter.base_quantization:
        adapter["quantization"] = config.adapter.base_quantization
    values |= {f"adapter.{name}": value for name, value in adapter.items() if value not in (False, [])}
    chosen = values | {"maxLength": config.data.max_length, "packing": config.data.packing, "loss": config.data.loss}
    return [(name, json.dumps(value).strip('"')) for name, value in chosen.items() if value not in (None, {})]


@dataclass(frozen=True)
class Terms:
    """A file with terms of use or attribution beside the data."""

    name: str
    text: str


def _terms(config: TrainConfig) -> Iterable[Terms]:
    records = all_records(config.data, config.evaluation).values()
    folders = {_local_folder(uri) for source in records for uri in source.uris if uri.startswith("file://")}
    for folder in sorted(folders):
        for path in sorted(path for pattern in TERMS_NAMES for path in folder.glob(pattern) if path.is_file()):
            yield Terms(path.name, path.read_text(encoding="utf-8", errors="replace").strip())


def _local_folder(uri: str) -> Path:
    """The folder that a `file://` folder, file or glob is in."""
    path = Path(uri.removeprefix("file://"))
    while not path.is_dir():
        path = path.parent
    return path


def _cell(text: str) -> str:
    """Text that stays inside its cell of a Markdown table."""
    return re.sub(r"\s+", " ", text).replace("|", r"\|")


def _code(text: str) -> str:
    """A code span, with more backticks around it than in it."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def _block(text: str) -> str:
    """A code block, with more backticks around it than in it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


_ENVIRONMENT = Environment(  # noqa: S701  Markdown, not HTML: the filters below keep values where they belong
    loader=PackageLoader("zerotune_trainer.reporting"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_ENVIRONMENT.filters |= {"cell": _cell, "code": _code, "block": _block}
