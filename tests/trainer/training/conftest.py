"""Jobs on real ranks: forked in milliseconds from one warm process that has imported the trainer."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")

import boto3
from cwe2.database import Database
from cwe2.mappings import xml_database_path

from tests.trainer.training.training_job import Job, eight_steps
from zerotune_devtools.harness.s3 import s3_server

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def descriptions() -> list[str]:
    """Texts of the CWE catalogue. `Database.get` reads all of it for each of them, which takes half a minute."""
    found: dict[int, str] = {}
    for file in Database.cwe_files:
        file.seek(0)
        found |= {int(row["CWE-ID"]): row["Description"] for row in csv.DictReader(file) if row["Description"]}
    for category in ElementTree.parse(xml_database_path).getroot()[1]:
        found.setdefault(int(category.attrib["ID"]), category[0].text or "")
    return [found[number] for number in range(74, 140)]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, warm_ranks: None, descriptions: list[str]) -> Path:
    """A Llama of two layers with a BPE of the descriptions."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|eos|>", "<|user|>", "<|assistant|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator(descriptions, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<|pad|>", eos_token="<|eos|>", chat_template=TEMPLATE
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def model_with_code(model_folder: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """Copy the model and let it bring code along, which defines `{name}Config` and `{name}ForCausalLM`."""

    def make(name: str, code: str) -> Path:
        module = name.lower()
        folder = Path(shutil.copytree(model_folder, tmp_path / module))
        (folder / f"{module}.py").write_text(code)
        classes = {"AutoConfig": f"{name}Config", "AutoModelForCausalLM": f"{name}ForCausalLM"}
        config = json.loads((folder / "config.json").read_text()) | {
            "model_type": module,
            "architectures": [classes["AutoModelForCausalLM"]],
            "auto_map": {auto: f"{module}.{own}" for auto, own in classes.items()},
        }
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return make


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, descriptions: list[str]) -> Path:
    """A folder with `text.jsonl` and `answers.jsonl`, whose rows have very different lengths."""
    folder = tmp_path_factory.mktemp("corpus")
    _write(folder / "text.jsonl", [{"text": text} for text in descriptions])
    answers = [
        {"prompt": f"Describe {len(text)}:", "completion": f" {text[: 20 + 13 * (number % 17)]}"}
        for number, text in enumerate(descriptions)
    ]
    _write(folder / "answers.jsonl", answers)
    return folder


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make_job(tmp_path: Path, model_folder: Path, corpus: Path, cache_dir: Path) -> Callable[..., Job]:
    """Make a cpt or sft job of six steps: two ranks on one host, ZeRO-2, fp32, unless set otherwise."""

    def make(name: str = "job", *, method: str = "cpt", stage: int = 2, hosts: str = "127.0.0.1 slots=2\n") -> Job:
        data = "text" if method == "cpt" else "answers"
        config = {
            "job": {"kind": "FineTuneJob", "name": name, "uid": f"uid-{name}"},
            "launch": {"cacheDir": str(cache_dir), "hangTimeoutSeconds": 60, "rendezvousTimeoutSeconds": 60},
            "model": {"uri": f"file://{model_folder}"},
            "output": {"uri": f"file://{tmp_path / name / 'output'}"},
            "method": method,
            "data": {"train": {"uris": [f"file://{corpus / data}.jsonl"]}, "validationFraction": 0.2, "maxLength": 128},
            "training": {
                "perDeviceTrainBatchSize": 2,
                "gradientAccumulationSteps": 1,
                "maxSteps": 6,
                "learningRate": 1e-2,
                "warmupSteps": 2,
            },
            "checkpoint": {"saveSteps": 2},
            "evaluation": {"evalStrategy": "steps", "evalSteps": 3},
        }
        return Job(tmp_path / name / "folder", config, deepspeed_settings(stage), hosts)

    return make


@pytest.fixture(scope="session")
def undisturbed() -> dict[int, tuple[list[dict[str, Any]], str]]:
    """Curve and weights by ZeRO stage of a job of eight steps that nothing happened to."""
    return {}


@pytest.fixture
def expected(make_job: Callable[..., Job], undisturbed: dict[int, Any]) -> Callable[[int], Any]:
    """What a job of eight steps comes to at a ZeRO stage, whatever happens to it on the way."""

    def of(stage: int) -> Any:
        if stage not in undisturbed:
            job = make_job(f"undisturbed-{stage}", stage=stage)
            job.config["training"]["maxSteps"] = 8
            ended = job.run()
            assert ended.exit_codes == [0, 0], ended.failures
            undisturbed[stage] = (job.curve(), job.weights())
        return undisturbed[stage]

    return of


@pytest.fixture(scope="session")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the output of a job is kept that was killed when it had the checkpoints 4 and 6."""
    return tmp_path_factory.mktemp("killed") / "output"


@pytest.fixture
def interrupted(make_job: Any, killed: Path) -> Any:
    """A job that was killed when it had the checkpoints 4 and 6."""
    job = eight_steps(make_job())
    if not killed.exists():
        running = job.start()
        running.until(lambda heartbeat: heartbeat.step >= 7)
        running.signal(signal.SIGKILL)
        running.end()
        shutil.rmtree(job.checkpoints / "checkpoint-8", ignore_errors=True)
        shutil.move(job.output, killed)
    shutil.copytree(killed, job.output)
    assert {path.name for path in job.checkpoints.glob("checkpoint-*")} == {"checkpoint-4", "checkpoint-6"}
    return job


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The variables by which a rank finds the store, which has a bucket `results`."""
    with s3_server(tmp_path / "moto.log") as endpoint:
        variables = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        boto3.resource("s3").Bucket("results").create()
        yield variables


def deepspeed_settings(stage: int) -> dict[str, Any]:
    return {
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": stage,
            "stage3_gather_16bit_weights_on_model_save": True,
            "stage3_param_persistence_threshold": 0,
        },
    }
