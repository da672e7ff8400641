"""Where a spec has what transformers' TrainingArguments, or another project, calls by a name of its own."""

from __future__ import annotations

OWN_FIELD = {
    "output_dir": "output.uri",
    "deepspeed": "deepspeed",
    "resume_from_checkpoint": "checkpoint.resume",
    "per_device_train_batch_size": "training.perDeviceTrainBatchSize",
    "per_device_eval_batch_size": "training.perDeviceEvalBatchSize",
    "gradient_accumulation_steps": "training.gradientAccumulationSteps",
    "num_train_epochs": "training.numTrainEpochs",
    "max_steps": "training.maxSteps",
    "learning_rate": "training.learningRate",
    "lr_scheduler_type": "training.lrSchedulerType",
    "lr_scheduler_kwargs": "training.lrSchedulerKwargs",
    "warmup_steps": "training.warmupSteps",
    "weight_decay": "training.weightDecay",
    "adam_beta1": "training.adamBeta1",
    "adam_beta2": "training.adamBeta2",
    "adam_epsilon": "training.adamEpsilon",
    "max_grad_norm": "training.maxGradNorm",
    "bf16": "training.precision",
    "fp16": "training.precision",
    "bf16_full_eval": "training.precision",
    "fp16_full_eval": "training.precision",
    "activation_checkpointing": "training.gradientCheckpointing",
    "gradient_checkpointing": "training.gradientCheckpointing",
    "use_liger_kernel": "training.useLigerKernel",
    "seed": "training.seed",
    "logging_steps": "training.loggingSteps",
    "eval_strategy": "evaluation.evalStrategy",
    "eval_steps": "evaluation.evalSteps",
    "eval_on_start": "evaluation.evalStrategy",
    "load_best_model_at_end": "evaluation.loadBestModelAtEnd",
    "metric_for_best_model": "evaluation.loadBestModelAtEnd",
    "greater_is_better": "evaluation.loadBestModelAtEnd",
    "save_strategy": "checkpoint.saveStrategy",
    "save_steps": "checkpoint.saveSteps",
    "save_total_limit": "checkpoint.saveTotalLimit",
    "do_train": "method",
    "do_eval": "evaluation.evalStrategy",
    "do_predict": "an InferenceJob",
    "use_cpu": "topology.gpusPerNode",
    "local_rank": "topology",
    "ddp_backend": "topology.gpusPerNode",
    "ddp_timeout": "runPolicy.hangTimeoutSeconds",
    "parallelism_config": "parallelism",
    "fsdp": "zero",
    "fsdp_config": "zero",
    "hub_token": "model.credentials",
}
"""Arguments that the spec sets elsewhere, and where."""

FORMER = {
    "evaluation_strategy": "evaluation.evalStrategy",
    "warmup_ratio": "training.warmupSteps, a share of all steps where below 1",
    "group_by_length": "training.arguments.train_sampling_strategy: group_by_length",
    "no_cuda": "topology.gpusPerNode: 0",
    "max_length": "data.maxLength",
    "max_seq_length": "data.maxLength",
    "packing": "data.packing",
    "dataset_text_field": "data.columns.text",
    "completion_only_loss": "data.loss: completion",
    "assistant_only_loss": "data.loss: assistant",
    "beta": "preference.beta",
    "attn_implementation": "model.attnImplementation",
    "trust_remote_code": "model.trustRemoteCode",
    "adafactor": "training.arguments.optim: adafactor",
    "per_gpu_train_batch_size": "training.perDeviceTrainBatchSize",
    "per_gpu_eval_batch_size": "training.perDeviceEvalBatchSize",
    "fp16_backend": "training.precision",
    "half_precision_backend": "training.precision",
}
"""Names that TrainingArguments had once, or that others have, and where they are now."""

REMOVED = frozenset(
    {"include_tokens_per_second", "jit_mode_eval", "logging_dir", "mp_parameters", "overwrite_output_dir"}
    | {"past_index", "ray_scope", "save_safetensors", "torchdynamo", "tpu_metrics_debug", "tpu_num_cores"}
    | {"use_ipex", "use_mps_device", "sharded_ddp", "fsdp_min_num_params"}
)
"""Names that TrainingArguments had once, with nothing in their place."""
