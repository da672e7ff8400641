"""Data sets of the Hugging Face Hub, read by `datasets` from a stand-in that HF_ENDPOINT names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.storage.hub_server import TOKEN, HubServer

pytestmark = pytest.mark.slow

READ = """
import json, sys
from pathlib import Path
from zerotune_trainer.config.data import Records
from zerotune_trainer.data.files import resolve
from zerotune_trainer.data.records import read_records
from zerotune_trainer.errors import ZerotuneError
for text in sys.argv[2:]:
    try:
        records = Records.model_validate_json(text)
        print(json.dumps([record.values["text"] for record in read_records(records, Path(sys.argv[1]))]))
    except ZerotuneError as error:
        print(json.dumps(f"{type(error).__name__} {error}"))
"""


def read(hub: HubServer, cache: Path, *records: dict[str, Any], **environment: str) -> list[Any]:
    """The texts of records, or the error, each of a job; one process reads all of them, as importing takes seconds."""
    printed = hub.run(READ, cache, *(json.dumps(each) for each in records), **environment)
    return [json.loads(line) for line in printed.splitlines()]


def test_a_data_set_is_read_with_its_subset_and_split(hub: HubServer, cache: Path) -> None:
    uris = ["hf://datasets/org/data"]
    found = read(
        hub,
        cache,
        {"uris": uris, "subset": "en", "split": "train"},
        {"uris": ["hf://datasets/org/data@main"], "subset": "en", "split": "test"},
        {"uris": uris, "subset": "de"},
        {"uris": uris, "subset": "en"},
        {"uris": uris, "subset": "fr"},
        {"uris": uris, "subset": "en", "split": "dev"},
        {"uris": uris, "subset": "en", "format": "jsonl"},
        {"uris": ["hf://datasets/org/none"]},
        {"uris": ["hf://datasets/org/data@nowhere"]},
        {"uris": ["hf://datasets/org/private"]},
    )
    *texts, several, subset, split, file_format, missing, revision, private = found
    assert texts == [["one", "two"], ["three"], ["eins"]]
    assert "holds the splits train, test" in several
    assert subset.startswith("InputMissingError hf://datasets/org/data: BuilderConfig 'fr' not found")
    assert split.startswith("InputMissingError hf://datasets/org/data: Unknown split")
    assert file_format.startswith("ConfigurationError hf://datasets/org/data: format jsonl is for files")
    assert missing.startswith("InputMissingError hf://datasets/org/none is not on the hub")
    assert revision.startswith("InputMissingError hf://datasets/org/data@nowhere has no revision 'nowhere'")
    assert "check the name; for a private one, set HF_TOKEN in the environment" in private
    assert hub.tokens == {None}


def test_a_private_data_set_takes_the_token_of_the_environment(hub: HubServer, cache: Path) -> None:
    records = {"uris": ["hf://datasets/org/private"], "subset": "de"}
    assert read(hub, cache, records, HF_TOKEN=TOKEN) == [["eins"]]
    assert hub.tokens == {f"Bearer {TOKEN}"}


def test_a_hub_that_is_out_of_reach_is_temporary(hub: HubServer, cache: Path) -> None:
    (found,) = read(hub, cache, {"uris": ["hf://datasets/org/data"]}, HF_HUB_OFFLINE="1")
    assert found.startswith("TemporaryError hf://datasets/org/data: the hub does not answer")
