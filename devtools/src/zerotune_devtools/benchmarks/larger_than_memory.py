"""A model that is larger than the memory it is run in, and the job that runs it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerotune_devtools.benchmarks.words import BOS, EOS, write_tokenizer
from zerotune_operator.api.jobs import InferenceJob
from zerotune_operator.plan import Plan, RuntimeLayout, plan_job
from zerotune_trainer.config import RENDEZVOUS_FILE, JobIdentity
from zerotune_trainer.sizing.shape import read_shape

PORT, PROGRESS_PORT = 29613, 29614
PROMPT = "w10 w11 w12 w13 w14 w15 w16 w17"
_HIDDEN, _MLP, _HEADS, _VOCABULARY, _CONTEXT = 2048, 5504, 16, 8192, 256
_OF_LAYER = 4 * _HIDDEN**2 + 3 * _HIDDEN * _MLP


@dataclass(frozen=True)
class LargeModel:
    """What both sides generate with, in fp32 on one rank."""

    work: Path
    """Absolute. Everything is written below it."""
    size: int
    """Bytes of the weights, at least."""
    batch: int
    new_tokens: int

    @property
    def folder(self) -> Path:
        """The model."""
        return self.work / "model"

    @property
    def weights(self) -> int:
        """Bytes of the weights."""
        return sum(file.stat().st_size for file in self.folder.glob("*.safetensors"))

    def make(self) -> None:
        """Write a Llama of random weights with a tokenizer of words, and the prompts."""
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        write_tokenizer(self.folder, _VOCABULARY)
        torch.manual_seed(0)
        outside = 2 * _VOCABULARY * _HIDDEN
        config = LlamaConfig(
            vocab_size=_VOCABULARY,
            hidden_size=_HIDDEN,
            intermediate_size=_MLP,
            num_hidden_layers=-(-(self.size // 4 - outside) // _OF_LAYER),
            num_attention_heads=_HEADS,
            max_position_embeddings=_CONTEXT,
            bos_token_id=BOS,
            eos_token_id=EOS,
        )
        LlamaForCausalLM(config).save_pretrained(self.folder, max_shard_size="500MB")
        (self.work / "prompts.jsonl").write_text(f"{json.dumps({'prompt': PROMPT})}\n" * self.batch)

    def forget(self) -> None:
        """Drop the model's files from the page cache: pages that another cgroup has read are in no way bounded."""
        os.sync()
        for file in self.folder.glob("*.safetensors"):
            with file.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def plan(self, limit: int) -> Plan:
        """The plan of the job on a node of `limit` bytes."""
        layout = RuntimeLayout(
            hosts=("127.0.0.1",),
            resolve=str,
            model_uri=self.folder.as_uri(),
            output_uri=(self.work / "output").as_uri(),
            checkpoint_uri="",
            cache_dir=str(self.work / "cache"),
            offload_dir=str(self.work / "offloaded"),
            master_port=PORT,
            progress_port=PROGRESS_PORT,
            node_bytes=limit,
        )
        identity = JobIdentity(kind="InferenceJob", name="bench", uid="bench")
        return plan_job(
            self._job(), read_shape(json.loads((self.folder / "config.json").read_bytes())), layout, identity
        )

    def write_job(self, plan: Plan) -> Path:
        """Write the folder that `zerotune-launch` gets."""
        folder = self.work / "job"
        folder.mkdir()
        for name, text in plan.artifacts().items():
            (folder / name).write_text(text)
        (folder / RENDEZVOUS_FILE).write_text("known to this benchmark's ranks")
        return folder

    def results(self) -> dict[str, Any]:
        """What the job has measured of itself: `results.json`."""
        results: dict[str, Any] = json.loads((self.work / "output" / "results.json").read_bytes())
        return results

    def texts(self) -> list[str]:
        """What the job has generated."""
        parts = sorted((self.work / "output").glob("part-*.jsonl"))
        return [json.loads(line)["generation"] for part in parts for line in part.read_text().splitlines()]

    def _job(self) -> InferenceJob:
        spec = {
            "model": {"uri": self.folder.as_uri()},
            "engine": "zero",
            "zero": {"offloadParam": "nvme"},
            "precision": "fp32",
            "data": {
                "uris": [(self.work / "prompts.jsonl").as_uri()],
                "columns": {"prompt": "prompt"},
                "maxLength": 16,
            },
            "generation": {"maxNewTokens": self.new_tokens, "minNewTokens": self.new_tokens},
            "perDeviceBatchSize": self.batch,
            "output": {"uri": (self.work / "output").as_uri()},
            "backend": {"local": {}},
        }
        head = {"apiVersion": "zerotune.dev/v1alpha1", "kind": "InferenceJob", "metadata": {"name": "bench"}}
        return InferenceJob.model_validate({**head, "spec": spec})
