"""What is trained on what, and the DeepSpeed settings that decide how much memory it takes. Torch-free and pure."""

from __future__ import annotations

from typing import Literal

from zerotune_trainer.config.adapter import Quantization
from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.model_shape import ModelShape

GIB = 1 << 30

Precision = Literal["bf16", "fp16", "fp32"]


class EngineSettings(Settings):
    """Settings of `deepspeed.json` and of the optimizer that memory depends on; sizes count elements, not bytes."""

    model_config = Settings.model_config | {"frozen": True}

    reduce_bucket_size: int
    """Gradients that are reduced together."""
    prefetch_bucket_size: int
    """Parameters that stage 3 fetches ahead."""
    max_live_parameters: int
    """Parameters that stage 3 may hold gathered."""
    sub_group_size: int
    """Parameters that stage 3 updates at once."""
    overlap_comm: bool = True
    """Whether a second bucket is filled while the first is reduced."""
    gradient_bytes: int | None = None
    """Bytes of an accumulated gradient (`data_types.grad_accum_dtype`). Default: those of a weight."""
    optimizer_bytes: int = 8
    """Bytes of optimizer state a parameter, the fp32 weights left out: AdamW has two moments."""
    fused_optimizer: bool = True
    """Whether a step updates the weights in place; `foreach` optimizers make a list of intermediate results."""


class GeneratedTexts(Settings):
    """Texts that a model in training generates."""

    model_config = Settings.model_config | {"frozen": True}

    prompts: int
    """How many there are."""
    beams: int
    """Sequences a prompt."""
    tokens: int
    """Tokens of the longest text."""


class Workload(Settings):
    """What is to be trained on what."""

    model_config = Settings.model_config | {"frozen": True}

    shape: ModelShape
    precision: Precision
    micro_batch: int
    """Rows a rank takes at once."""
    sequence_length: int
    """Tokens of a sequence."""
    sequences_per_row: int = 1
    """Sequences of a row that are trained on: two where it is a pair (dpo, orpo)."""
    data_parallel: int
    """Ranks that share optimizer state, gradients and parameters out among themselves."""
    ranks_per_node: int
    on_cpu: bool
    settings: EngineSettings
    evaluation_batch: int = 0
    """Rows a rank evaluates at once; 0 where nothing is evaluated."""
    generated: GeneratedTexts | None = None
    """What is generated with each evaluation."""
    gradient_checkpointing: bool = False
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    masked: bool = False
    """Whether attention gets a mask: rows are padded, or documents share a block; never with flash attention."""
    liger_kernel: bool = False
    """Fused kernels: norms and MLP keep less."""
    tiled_logits: bool = False
    """Whether the loss makes logits a tile at a time, as all do but one with label smoothing."""
    adapter_parameters: int = 0
    """Parameters of the adapter that is trained while those of the model are frozen; 0 where there is none."""
    base_quantization: Quantization | None = None
    """Number format of the model's linear layers while the adapter is trained; None where they stay as they are."""
    merges: bool = False
    """Whether the output holds the model with the adapter merged in."""
    device_bytes: int | None = None
    """Memory of one GPU; None where unknown, and on CPU."""
    node_bytes: int | None = None
    """Memory of one node's host; None where unknown."""

    @property
    def tokens(self) -> int:
        """Tokens a rank takes at once."""
        return self.micro_batch * self.sequences_per_row * self.sequence_length

    @property
    def width(self) -> int:
        """Bytes of a weight or an activation."""
        return bytes_per_number(self.precision)

    @property
    def parameters(self) -> int:
        """Parameters in all, those of an adapter among them."""
        return self.shape.parameters + self.adapter_parameters

    @property
    def trained(self) -> int:
        """Parameters with a gradient and optimizer state: those of the adapter, where there is one."""
        return self.adapter_parameters or self.shape.parameters

    @property
    def share(self) -> int:
        """Parameters of a rank where they are partitioned."""
        return -(-self.parameters // self.data_parallel)

    @property
    def trained_share(self) -> int:
        """Trained parameters of a rank where they are partitioned."""
        return -(-self.trained // self.data_parallel)


def bytes_per_number(precision: Precision) -> int:
    """Bytes of a weight or an activation."""
    return 4 if precision == "fp32" else 2


def default_settings(shape: ModelShape, *, on_cpu: bool) -> EngineSettings:
    """The settings of a job whose user says nothing about them."""
    bucket = _bucket_size(shape)
    return EngineSettings(
        reduce_bucket_size=bucket,
        prefetch_bucket_size=bucket * 9 // 10,
        max_live_parameters=_live_parameters(shape),
        sub_group_size=1_000_000_000,
        # There is nothing to overlap with where the ranks' cores do the communication too.
        overlap_comm=not on_cpu,
    )


def _bucket_size(shape: ModelShape) -> int:
    """Elements of a communication bucket: hidden size squared as transformers has it, but not a host of tiny ones."""
    return min(shape.parameters, max(shape.hidden_size**2, 5_000_000))


def _live_parameters(shape: ModelShape) -> int:
    """Parameters stage 3 may hold gathered: two layers, or an eighth of the model."""
    return min(10**9, max(2 * shape.largest_layer, shape.parameters // 8))


def gib(count: float) -> str:
    """Bytes for a person to read."""
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / (1 << 20):.0f} MiB"
