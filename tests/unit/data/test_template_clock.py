"""A chat template that asks for the time gets that of the job's creation: rows depend on the job alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from transformers import PreTrainedTokenizerFast

from tests.unit.data.conftest import CHATML, MakeConfig
from zerotune_trainer import data
from zerotune_trainer.config.generation import InferenceData
from zerotune_trainer.data.readers import Record
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.inference.prompts import Prompts

TALK = [{"role": "user", "content": "what?"}, {"role": "assistant", "content": "that"}]
CREATED = datetime(2024, 2, 29, 23, 30, 15, tzinfo=timezone(timedelta(hours=-3)))


def text_of(make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, created: datetime | None = CREATED) -> str:
    config = make_config([{"messages": TALK}])
    config.job.created = created
    return str(tokenizer.decode(data.prepare(config, tokenizer, processes=1).train[0]["input_ids"].tolist()))


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("strftime_now('%d %b %Y %H:%M:%S')", "01 Mar 2024 02:30:15"),
        ('strftime_now( "%Y" )', "2024"),
        ("strftime_now('%Y') if strftime_now is defined else 'never'", "2024"),
    ],
)
def test_a_template_knows_when_the_job_was_created(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, expression: str, wanted: str
) -> None:
    tokenizer.chat_template = "[{{ " + expression + " }}]" + CHATML
    assert text_of(make_config, tokenizer).startswith(f"[{wanted}]")
    later = text_of(make_config, tokenizer, datetime(2031, 1, 1, tzinfo=UTC))
    assert "2031" in later, "rows of another job are not taken from the cache"


def test_a_clock_without_a_creation_time_or_with_a_format_of_its_own_is_rejected(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    tokenizer.chat_template = "{{ strftime_now('%Y') }}" + CHATML
    with pytest.raises(ConfigurationError, match="does not say when the job was created"):
        text_of(make_config, tokenizer, None)
    tokenizer.chat_template = "{% set f = '%Y' %}{{ strftime_now(f) }}" + CHATML
    with pytest.raises(ConfigurationError, match="in a format that it works out"):
        text_of(make_config, tokenizer)


def test_prompts_of_an_inference_job_know_when_it_was_created(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}: {{ messages[0].content }}"
    asked = Record({"prompt": "what?"}, "q.jsonl", 1)
    asks = InferenceData(uris=["file:///q.jsonl"], apply_chat_template=True)
    texts = {Prompts(asks, tokenizer, [asked], None, created=CREATED).text(asked) for _ in range(2)}
    assert texts == {"01 Mar 2024: what?"}
