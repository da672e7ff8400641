"""Which tokens of a conversation are answers, over tokenizers that cut and change text in their own ways."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.unit.data.conftest import catalogue
from zerotune_trainer.config.data import Data
from zerotune_trainer.data.columns import RecordColumns
from zerotune_trainer.data.processing import load_processing
from zerotune_trainer.data.readers import Record
from zerotune_trainer.data.tokens import RecordTokenizer

pytestmark = pytest.mark.slow

SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>"]
MARKED = (
    "{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|end|>\n{% endfor %}"
)
UNMARKED = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def byte_level(normalizer: Any = None, *, trim: bool = False) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=trim)
    if normalizer is not None:
        made.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trained(made, trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet))


def metaspace() -> Tokenizer:
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    pieces = [f"<0x{number:02X}>" for number in range(256)]
    return trained(made, trainers.BpeTrainer(vocab_size=900, special_tokens=[*SPECIAL, *pieces]))


def word_pieces() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return trained(made, trainers.WordPieceTrainer(vocab_size=700, special_tokens=SPECIAL))


def unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return trained(made, trainers.UnigramTrainer(vocab_size=500, special_tokens=SPECIAL, unk_token="<unk>"))


def whole_words() -> Tokenizer:
    """Drops white space, and takes a word that it does not know for one token."""
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.NFD(), normalizers.StripAccents()])
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits()])
    return trained(made, trainers.WordLevelTrainer(vocab_size=400, special_tokens=SPECIAL))


def greedy_special_tokens() -> Tokenizer:
    """Special tokens swallow the white space beside them, as those of Phi-3 do."""
    made = byte_level(normalizers.NFD())
    made.add_special_tokens([AddedToken(token, lstrip=True, rstrip=True) for token in SPECIAL[3:]])
    return made


def trained(made: Tokenizer, trainer: Any) -> Tokenizer:
    made.train_from_iterator((row["Description"] for row in catalogue()[:200]), trainer)
    return made


TOKENIZERS = {
    "byte-level": byte_level,
    "byte-level, trimmed offsets": lambda: byte_level(trim=True),
    "byte-level, NFC": lambda: byte_level(normalizers.NFC()),
    "byte-level, NFKC without zero-width": lambda: byte_level(
        normalizers.Sequence([normalizers.Replace("\u200b", ""), normalizers.NFKC()])
    ),
    "metaspace, byte fallback": metaspace,
    "word pieces, lower case": word_pieces,
    "unigram, NFKC": unigram,
    "whole words, no white space": whole_words,
    "special tokens that swallow white space": greedy_special_tokens,
}
CONTENT = st.text(
    st.sampled_from("abz AZ.\n\t  é\u0301\u200bﬁ½…—漢字かな한글عربי🎉👩\u200d🔬😀"), min_size=0, max_size=12
)
ROLES = ("user", "assistant")
TALKS = st.lists(st.tuples(CONTENT, CONTENT), min_size=1, max_size=3)


@pytest.fixture(scope="module", params=TOKENIZERS)
def real_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=TOKENIZERS[request.param](),
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=SPECIAL[3:],
    )


def row_of(talk: list[dict[str, Any]], tokenizer: PreTrainedTokenizerFast, template: str) -> Any:
    tokenizer.chat_template = template
    tokenize = RecordTokenizer(
        Data.model_validate({"train": {"uris": ["file:///x"]}, "loss": "assistant"}),
        tokenizer,
        RecordColumns("messages", ("messages",)),
        load_processing(None),
        packed=True,
    )
    [row] = tokenize([Record({"messages": talk}, "talk.jsonl", 1)]).rows
    return row


@pytest.mark.parametrize("template", [MARKED, UNMARKED], ids=["marked", "unmarked"])
@given(pairs=TALKS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tokens_inside_answers_count_and_those_outside_do_not(
    real_tokenizer: PreTrainedTokenizerFast, template: str, pairs: list[tuple[str, str]]
) -> None:
    pairs = [*pairs, ("last question", "last answer")]
    talk = [{"role": role, "content": text} for pair in pairs for role, text in zip(ROLES, pair, strict=True)]
    row = row_of(talk, real_tokenizer, template)
    # The conversation, character by character, and whether it is inside an answer, from the template's own text.
    text, answers = "", set[int]()
    for message in talk:
        text += f"<|{message['role']}|>\n"
        if message["role"] == "assistant":
            answers |= set(range(len(text), len(text) + len(message["content"])))
        text += f"{message['content']}<|end|>\n"
    encoded = real_tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    assert row.ids.tolist() == encoded["input_ids"]
    # Without marks, an answer is what the template writes up to and with the end of its turn.
    beyond = set() if template == MARKED else {place for place in range(len(text)) if text[:place].endswith("<|end|>")}
    for (begin, end), label in zip(encoded["offset_mapping"], row.labels, strict=True):
        if begin == end:
            continue
        covered = set(range(begin, end))
        if covered <= answers:
            assert label != -100, (text, begin, end)
        elif not covered & answers and (template == MARKED or text[begin:end] != "<|end|>") and not covered & beyond:
            assert label == -100, (text, begin, end)
