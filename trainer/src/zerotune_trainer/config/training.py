"""How a FineTuneJob trains: hyperparameters, precision, checkpoints, evaluation."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints

from zerotune_trainer.config.arguments import check_arguments
from zerotune_trainer.config.base import JsonObject, Number, Rule, Settings, Uri, each_once
from zerotune_trainer.config.data import Data, Records, Texts
from zerotune_trainer.config.optimizer import OPTIMIZER_RULES
from zerotune_trainer.config.schedule import SCHEDULE_RULES, Schedule, ScheduleOptions
from zerotune_trainer.config.sources import FOLDER_RULES, ReferenceModel, SecretReference
from zerotune_trainer.config.text_evaluation import TextEvaluation

Precision = Literal["auto", "bf16", "fp16", "fp32"]


class Training(Settings):
    """Hyperparameters, named and defaulted as in transformers' TrainingArguments where they are its own."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.maxSteps) || self.numTrainEpochs == 1.0",
            "give numTrainEpochs or maxSteps, not both",
            "numTrainEpochs",
        ),
        Rule(
            "!has(self.maxSteps) || self.warmupSteps <= double(self.maxSteps)",
            "warmupSteps must not exceed maxSteps: the peak would never be reached; below 1 it is a share of all steps",
            "warmupSteps",
        ),
        Rule(
            "!has(self.arguments.logging_strategy) || self.arguments.logging_strategy == 'steps' "
            "|| self.loggingSteps == 1",
            "loggingSteps has no effect with this arguments.logging_strategy: set that to steps, or leave loggingSteps "
            "out",
            "loggingSteps",
        ),
        *(
            Rule(
                f"!has(self.arguments.{name}) || has(self.arguments.dataloader_num_workers) "
                "&& self.arguments.dataloader_num_workers > 0",
                f"{name} is about worker processes, and there are none: set dataloader_num_workers, or leave {name} "
                "out",
                f"arguments.{name}",
            )
            for name in (
                "dataloader_prefetch_factor",
                "dataloader_persistent_workers",
                "dataloader_multiprocessing_context",
            )
        ),
        *SCHEDULE_RULES,
        *OPTIMIZER_RULES,
    )

    global_batch_size: int | None = Field(default=None, ge=1)
    """Rows an optimizer step sees: micro batch x accumulation x data-parallel ranks.
    Left out: what the other two give."""
    per_device_train_batch_size: int | None = Field(default=None, ge=1)
    """Micro batch: rows a rank takes at once. Left out: derived from the others, else 1."""
    gradient_accumulation_steps: int | None = Field(default=None, ge=1)
    """Micro batches an optimizer step sums up. Left out: derived from the others, else 1."""
    per_device_eval_batch_size: int | None = Field(default=None, ge=1)
    """Rows a rank evaluates at once. Default: the micro batch."""
    num_train_epochs: Number = Field(default=1.0, gt=0)
    """Passes over the training data; ignored where `maxSteps` is given."""
    max_steps: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """Optimizer steps to take."""
    learning_rate: Number = Field(default=2e-5, gt=0)
    """Peak learning rate."""
    lr_scheduler_type: Schedule = "cosine"
    """Schedule of the learning rate after warm-up."""
    lr_scheduler_kwargs: ScheduleOptions = ScheduleOptions()
    """Further options of the schedule, as transformers names them."""
    warmup_steps: Number = Field(default=0, ge=0)
    """Warm-up: a number of steps, or a share of all steps where below 1."""
    weight_decay: Number = Field(default=0.0, ge=0)
    """Weight decay of AdamW; biases and norms are left out of it."""
    adam_beta1: Number = Field(default=0.9, ge=0, lt=1)
    """AdamW's first beta."""
    adam_beta2: Number = Field(default=0.999, ge=0, lt=1)
    """AdamW's second beta."""
    adam_epsilon: Number = Field(default=1e-8, gt=0)
    """AdamW's epsilon."""
    max_grad_norm: Number = Field(default=1.0, ge=0)
    """Gradients are clipped to this norm; 0 turns clipping off."""
    precision: Precision = "auto"
    """Number format of the forward and backward pass. `auto`: bf16 on GPUs, fp32 on CPU."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    use_liger_kernel: bool = False
    """Use the fused CUDA kernels of the package liger-kernel."""
    seed: int = Field(default=42, ge=0, le=2**32 - 1)
    """Seeds weights, order and dropout."""
    logging_steps: int = Field(default=1, ge=1)
    """Optimizer steps between two log records."""
    arguments: Annotated[JsonObject, AfterValidator(check_arguments)] = Field(
        default={}, json_schema_extra={"x-arguments": True}
    )
    """Any further field of transformers' TrainingArguments, by its own name (`neftune_noise_alpha: 5`). A name it does
    not have is rejected, and so is one that has a field of its own here."""


LossType = Literal["sigmoid", "hinge", "ipo", "robust", "apo_zero", "apo_down"]


class Preference(Settings):
    """Options of the methods dpo, orpo and kto, named and defaulted as in TRL."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.lossWeights) || size(self.lossWeights) == size(self.lossType)",
            "lossWeights has one weight for each loss of lossType: give as many, or leave it out to weigh each 1",
            "lossWeights",
        ),
        each_once("lossType", ", with its weight in lossWeights"),
    )

    beta: Number = Field(default=0.1, gt=0)
    """How strongly the model is held to the reference (dpo, kto), or weight of the odds ratio (orpo)."""
    loss_type: list[LossType] = Field(default=["sigmoid"], min_length=1, max_length=6)
    """Losses of method dpo, which are summed up."""
    loss_weights: list[Annotated[Number, Field(gt=0)]] | None = Field(default=None, min_length=1, max_length=6)
    """Weight of each loss of `lossType`. Default: 1."""
    # At one half the loss is infinite; the API server reads a bound of "below 0.5" as "below 0" where a value is whole.
    label_smoothing: Number = Field(default=0.0, ge=0, le=0.49)
    """Share of pairs whose labels are taken to be the wrong way round (dpo, loss robust)."""
    max_prompt_length: int | None = Field(default=None, ge=1)
    """Longest prompt in tokens; a longer one is cut on the left. Default, and most: `data.maxLength`."""
    reference_model: ReferenceModel | None = None
    """Model to compare with (dpo, kto). It is loaded once before training, and freed: the model that is trained takes
    its place. Default: the model as it was before training."""
    sync_reference: bool | None = None
    """Let the reference follow the model while it is trained (TR-DPO, TRL's `sync_ref_model`)."""
    desirable_weight: Number = Field(default=1.0, gt=0)
    """Weight of good completions (kto)."""
    undesirable_weight: Number = Field(default=1.0, gt=0)
    """Weight of bad completions (kto)."""


class Zero(Settings):
    """DeepSpeed ZeRO: what is partitioned over the data-parallel ranks, and what is kept off the device."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.offloadParam in ['auto', 'none'] || string(self.stage) in ['auto', '3']",
            "offloadParam needs ZeRO stage 3: set stage to 3 or auto, or offloadParam to none",
            "offloadParam",
        ),
        Rule(
            "self.offloadOptimizer in ['auto', 'none'] || string(self.stage) in ['auto', '2', '3']",
            "offloadOptimizer needs ZeRO stage 2 or 3: set stage to 2, 3 or auto, or offloadOptimizer to none",
            "offloadOptimizer",
        ),
        Rule(
            "self.offloadOptimizer != 'nvme' || string(self.stage) in ['auto', '3']",
            "offloadOptimizer: nvme needs ZeRO stage 3: set stage to 3 or auto, or offloadOptimizer to cpu",
            "offloadOptimizer",
        ),
    )

    stage: Literal["auto", 0, 1, 2, 3] = "auto"
    """0: nothing is partitioned; 1: optimizer state; 2: and gradients; 3: and parameters. `auto` takes the first
    that fits."""
    offload_optimizer: Literal["auto", "none", "cpu", "nvme"] = "auto"
    """Where optimizer state lives when not on the device. `auto`: on the device if it fits."""
    offload_param: Literal["auto", "none", "cpu", "nvme"] = "auto"
    """Where parameters live when not on the device (stage 3 only). `auto`: on the device if they fit. `nvme`: on a disk
    of every node, but for what `topology.memory` has room for; for InferenceJobs of engine `zero` alone."""


class Checkpoint(Settings):
    """Checkpoints: complete or absent, each with a manifest."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.uri) || !self.uri.startsWith('hf://')",
            "hf:// is read, never written: use s3://, pvc:// or file://",
            "uri",
        ),
        *FOLDER_RULES,
        Rule(
            "self.saveSteps == 500 || self.saveStrategy == 'steps'",
            "saveSteps is for saveStrategy: steps: set that strategy, or leave saveSteps out",
            "saveSteps",
        ),
        Rule(
            "self.saveTotalLimit == 2 || self.saveStrategy != 'no'",
            "saveTotalLimit has no effect with saveStrategy: no: set saveStrategy to steps or epoch, or leave "
            "saveTotalLimit out",
            "saveTotalLimit",
        ),
        Rule(
            "self.resume in ['auto', 'never'] || self.saveStrategy != 'no'",
            "resume goes on from a checkpoint, and saveStrategy: no writes none: set saveStrategy to steps or epoch, "
            "or leave resume out",
            "resume",
        ),
    )

    uri: Uri | None = None
    """Folder of the checkpoints. Default: `checkpoints` in the output folder."""
    save_strategy: Literal["steps", "epoch", "no"] = "steps"
    """When to save. With `no`, a stopped job starts again from the beginning."""
    save_steps: int = Field(default=500, ge=1)
    """Optimizer steps between two checkpoints."""
    save_total_limit: int = Field(default=2, ge=1)
    """How many checkpoints are kept; the best one is kept besides where `evaluation.loadBestModelAtEnd` needs it."""
    resume: Annotated[str, StringConstraints(pattern=r"^(auto|never|best|checkpoint-[0-9]+|epoch-[0-9]+)$")] = "auto"
    """`auto`: from the last complete checkpoint; `never`; `best`; or a checkpoint by name: `checkpoint-500`,
    `epoch-2`."""
    credentials: SecretReference | None = None
    """Secret with the keys that reading and writing checkpoints takes."""


class Evaluation(Settings):
    """Evaluation on the validation records: loss and perplexity."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.maxControlPerplexityIncrease) || has(self.control)",
            "maxControlPerplexityIncrease is about control texts: name them in control, or leave it out",
            "maxControlPerplexityIncrease",
        ),
        Rule(
            "!has(self.control) || self.evalStrategy != 'no'",
            "control texts are measured with each evaluation: set evalStrategy to steps or epoch, or leave control out",
            "control",
        ),
        Rule(
            "!has(self.generation) || self.evalStrategy != 'no'",
            "texts are generated with each evaluation: set evalStrategy to steps or epoch, or leave generation out",
            "generation",
        ),
        Rule(
            "self.evalSteps == 500 || self.evalStrategy == 'steps'",
            "evalSteps is for evalStrategy: steps: set that strategy, or leave evalSteps out",
            "evalSteps",
        ),
    )

    eval_strategy: Literal["steps", "epoch", "no"] = "epoch"
    """When to evaluate. There is an evaluation before the first and after the last step too, unless `no`."""
    eval_steps: int = Field(default=500, ge=1)
    """Optimizer steps between two evaluations."""
    load_best_model_at_end: bool = False
    """The output is the checkpoint with the lowest evaluation loss, not the last state."""
    generation: TextEvaluation | None = None
    """Texts that the model generates with each evaluation."""
    control: Texts | None = None
    """Texts that the model is to go on knowing, for methods cpt and sft: their perplexity is measured with each
    evaluation, and shows what training makes it forget."""
    max_control_perplexity_increase: Number | None = Field(default=None, gt=0)
    """By which share the perplexity of the control texts may rise above the one before training: 0.1 is 10%. Where it
    rises further, the job saves a checkpoint and fails (class Forgetting), and writes no model. Default: no limit."""


def all_records(data: Data, evaluation: Evaluation) -> dict[str, Records]:
    """All records that a FineTuneJob reads, by their place in its spec: `data.train`."""
    parts = {
        "data.train": data.train,
        "data.validation": data.validation,
        "data.replay": data.replay,
        "evaluation.control": evaluation.control,
        "evaluation.generation.data": evaluation.generation.data if evaluation.generation else None,
    }
    return {place: part for place, part in parts.items() if part is not None}
