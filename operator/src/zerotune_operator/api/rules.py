"""Rules between the parts of a spec. Rules within one part stand in that part's own model."""

from __future__ import annotations

from zerotune_operator.api.evaluation_rules import EVALUATION_RULES
from zerotune_operator.api.method_rules import METHOD_RULES
from zerotune_operator.api.plugin_rules import PLUGIN_RULES
from zerotune_operator.api.support import rules
from zerotune_operator.api.task_rules import TASK_RULES
from zerotune_operator.api.unchanging_rules import unchanging, unchanging_backend, unchanging_topology
from zerotune_trainer.config.adapter import WHOLE_BASE
from zerotune_trainer.config.base import Rule

_PACKED = "(has(self.data.packing) ? self.data.packing != 'none' : self.method == 'cpt')"
_STAGE = "string(self.zero.stage)"
_ARGUMENTS = "self.training.arguments"

_BACKENDS = (
    Rule(
        "has(self.output.uri) || !has(self.backend.kubernetes) && !has(self.backend.sagemaker)",
        "output.uri is required but for the local backend: name the folder that receives the result",
        "output.uri",
    ),
    Rule(
        "!has(self.model.uri) || !has(self.output.uri) || self.model.uri != self.output.uri "
        "&& (self.output.uri.contains('/..') "
        "|| !self.output.uri.startsWith(self.model.uri.endsWith('/') ? self.model.uri : self.model.uri + '/'))",
        "output.uri must neither be the model's own folder nor lie in it: name another one",
        "output.uri",
    ),
    Rule(
        "self.model.attnImplementation != 'flash_attention_2' || self.topology.gpusPerNode > 0",
        "flash_attention_2 needs GPUs: set topology.gpusPerNode, or use auto, sdpa or eager",
        "model.attnImplementation",
    ),
)
"""What both kinds have in common."""


_PACKING = (
    Rule(
        f"!{_PACKED} || self.data.overflow == 'error'",
        "overflow has no effect on packed records: set packing: none, or leave overflow out",
        "data.overflow",
    ),
    Rule(
        f"!{_PACKED} || !has({_ARGUMENTS}.train_sampling_strategy) "
        f"|| !({_ARGUMENTS}.train_sampling_strategy in ['group_by_length', 'batch_rebalance'])",
        "train_sampling_strategy sorts rows by length, and packed rows all have one length: set data.packing: none, or "
        "leave train_sampling_strategy out",
        "training.arguments.train_sampling_strategy",
    ),
)

_NOT_QLORA = "!has(self.adapter) || self.adapter.type != 'qlora'"

_ZERO = (
    Rule(
        f"{_NOT_QLORA} || {_STAGE} != '3'",
        f"zero.stage 3 partitions parameters, and {WHOLE_BASE}; set zero.stage to 0, 1, 2 or auto, or use lora",
        "zero.stage",
    ),
    Rule(
        f"{_NOT_QLORA} || self.zero.offloadParam in ['auto', 'none']",
        f"offloadParam goes with zero.stage 3, and {WHOLE_BASE}; set zero.offloadParam to none or auto, or use lora",
        "zero.offloadParam",
    ),
    Rule(
        f"!has({_ARGUMENTS}.optim) || !{_ARGUMENTS}.optim.matches('bnb|[48]bit|paged|32bit|ademamix') "
        f"|| {_STAGE} in ['0', '1', '2']",
        "zero.stage 3, which auto may choose, cannot partition the state of this optim, a quantized or paged optimizer "
        "of bitsandbytes: set zero.stage to 0, 1 or 2, or leave optim out",
        "training.arguments.optim",
    ),
    Rule(
        f"self.parallelism.tensor == 1 || {_STAGE} in ['auto', '0', '1', '2']",
        "parallelism.tensor goes with ZeRO stage 0, 1 or 2: set zero.stage to one of them or auto",
        "zero.stage",
    ),
    Rule(
        f"self.parallelism.sequence == 1 || {_STAGE} in ['auto', '3']",
        "parallelism.sequence needs ZeRO stage 3: set zero.stage to 3 or auto",
        "zero.stage",
    ),
    Rule(
        f"self.parallelism.pipeline == 1 || {_STAGE} in ['auto', '0', '1']",
        "parallelism.pipeline goes with ZeRO stage 0 or 1: set zero.stage to one of them or auto",
        "zero.stage",
    ),
)


def _half_precision(field: str) -> Rule:
    return Rule(
        f"self.{field} != 'fp16' || self.topology.gpusPerNode > 0",
        f"fp16 needs GPUs: set topology.gpusPerNode, or {field} to bf16 or fp32",
        field,
    )


_DEVICES = (
    _half_precision("training.precision"),
    Rule(
        "!self.training.useLigerKernel || self.topology.gpusPerNode > 0",
        "the Liger kernels need GPUs: set topology.gpusPerNode, or useLigerKernel: false",
        "training.useLigerKernel",
    ),
    Rule(
        "!has(self.backend.sagemaker) || !self.backend.sagemaker.spot || self.checkpoint.saveStrategy != 'no'",
        "spot instances are taken away at any time: set checkpoint.saveStrategy to steps or epoch, or spot: false",
        "checkpoint.saveStrategy",
    ),
)


def _needs(argument: str, field: str) -> Rule:
    return Rule(
        f"!has({_ARGUMENTS}.{argument}) || self.training.{field}",
        f"{argument} has no effect without training.{field}: set that to true, or leave {argument} out",
        f"training.arguments.{argument}",
    )


_BUFFERS = Rule(
    f"!has({_ARGUMENTS}.ddp_broadcast_buffers) || !{_ARGUMENTS}.ddp_broadcast_buffers",
    "DeepSpeed broadcasts no buffers while it trains: set ddp_broadcast_buffers to false, or leave it out",
    "training.arguments.ddp_broadcast_buffers",
)

FINE_TUNE_RULES = (
    _BUFFERS,
    _needs("activation_checkpointing_kwargs", "gradientCheckpointing"),
    _needs("gradient_checkpointing_kwargs", "gradientCheckpointing"),
    _needs("liger_kernel_config", "useLigerKernel"),
    Rule(
        "!has(self.adapter) || !self.model.resizeEmbeddings",
        "an adapter does not train the embeddings that are added: train all parameters, or leave resizeEmbeddings out",
        "model.resizeEmbeddings",
    ),
    Rule(
        "!has(self.adapter) || !has(self.model.checkpoint)",
        "an adapter names the model that it is for, and a checkpoint is no model: train all parameters, or leave "
        "checkpoint out",
        "model.checkpoint",
    ),
    *METHOD_RULES,
    *PLUGIN_RULES,
    *_PACKING,
    *_ZERO,
    *EVALUATION_RULES,
    *_DEVICES,
    *_BACKENDS,
    *rules("FineTuneJob"),
    *unchanging(
        "a FineTuneJob",
        (
            "method",
            "model",
            "data",
            "training",
            "parallelism",
            "zero",
            "deepspeed",
            "topology",
            "checkpoint",
            "evaluation",
            "output",
        ),
        ("adapter", "preference", "script", "plugin"),
    ),
    unchanging_backend("a FineTuneJob"),
)
"""Of a FineTuneJob's spec."""

_VLLM = tuple(
    Rule(
        f"self.engine != 'vllm' || {condition}",
        f"engine vllm has no {what}: leave it out, or set engine: transformers",
        f"generation.{field}",
    )
    for field, condition, what in (
        ("numBeams", "self.generation.numBeams == 1", "beam search"),
        ("penaltyAlpha", "!has(self.generation.penaltyAlpha) || self.generation.penaltyAlpha == 0.0", "penaltyAlpha"),
        ("noRepeatNgramSize", "self.generation.noRepeatNgramSize == 0", "noRepeatNgramSize"),
        ("useCache", "self.generation.useCache", "useCache: false"),
    )
)

INFERENCE_RULES = (
    Rule(
        "!self.model.resizeEmbeddings",
        "embeddings that are added must be trained: leave resizeEmbeddings out, and train the model with it first",
        "model.resizeEmbeddings",
    ),
    _half_precision("precision"),
    *TASK_RULES,
    *_VLLM,
    Rule(
        "self.parallelism.tensor == 1 || self.engine in ['auto', 'deepspeed', 'vllm']",
        "parallelism.tensor is for engines deepspeed and vllm: set one of them, or leave parallelism.tensor out",
        "parallelism.tensor",
    ),
    Rule(
        "self.engine == 'zero' || string(self.zero.stage) == 'auto' && self.zero.offloadParam == 'auto' "
        "&& self.zero.offloadOptimizer == 'auto'",
        "zero is for engine: zero: set that engine, or leave zero out",
        "zero",
    ),
    Rule(
        "self.engine != 'zero' || string(self.zero.stage) in ['auto', '3']",
        "engine zero runs ZeRO stage 3: set zero.stage to 3 or auto",
        "zero.stage",
    ),
    Rule(
        "self.zero.offloadOptimizer in ['auto', 'none']",
        "inference has no optimizer: leave offloadOptimizer out",
        "zero.offloadOptimizer",
    ),
    *_BACKENDS,
    *rules("InferenceJob"),
    *unchanging(
        "an InferenceJob",
        (
            "model",
            "engine",
            "data",
            "task",
            "labels",
            "embedding",
            "generation",
            "precision",
            "parallelism",
            "kernelInject",
            "zero",
            "output",
            "outputFormat",
        ),
        ("globalBatchSize", "perDeviceBatchSize", "plugin", "maxErrorRate"),
    ),
    unchanging_topology(),
    unchanging_backend("an InferenceJob"),
)
"""Of an InferenceJob's spec."""
