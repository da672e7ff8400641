"""What optimizers of `training.arguments` read of the other hyperparameters (transformers.trainer_optimizer)."""

from __future__ import annotations

from zerotune_trainer.config.base import Rule

DEFAULT_OPTIMIZER = "adamw_torch_fused"

_BETAS = (
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_torch_xla",
    "adamw_torch_npu_fused",
    "adamw_anyprecision",
    "adamw_torch_4bit",
    "adamw_torch_8bit",
    "adamw_bnb_8bit",
    "adamw_8bit",
    "paged_adamw_32bit",
    "paged_adamw_8bit",
    "ademamix",
    "ademamix_8bit",
    "paged_ademamix_32bit",
    "paged_ademamix_8bit",
    "apollo_adamw",
    "apollo_adamw_layerwise",
    "schedule_free_radam",
    "schedule_free_adamw",
    "stable_adamw",
)
_LIONS = ("lion_8bit", "lion_32bit", "paged_lion_32bit", "paged_lion_8bit")
READERS = {"adamBeta1": (*_BETAS, *_LIONS), "adamBeta2": (*_BETAS, *_LIONS), "adamEpsilon": _BETAS}
"""The optimizers that read a field of `training`."""
_DEFAULTS = {"adamBeta1": 0.9, "adamBeta2": 0.999, "adamEpsilon": 1e-8}

_LOW_RANK = ("rank", "update_proj_gap", "scale", "proj_type")
_EMAS = ("beta1", "beta2", "beta3", "alpha", "eps", "t_alpha", "t_beta3")
_TORCHAO = ("block_size", "bf16_stochastic_round")
_SCHEDULE_FREE = ("weight_lr_power", "r")
_GALORE = ("galore_adamw", "galore_adamw_8bit", "galore_adafactor")
OPTIM_ARGS: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum", "dampening", "weight_decay", "nesterov"),
    "adagrad": ("lr_decay", "weight_decay", "eps"),
    "rmsprop": ("momentum", "alpha", "eps", "weight_decay", "centered"),
    "adamw_anyprecision": (
        "use_kahan_summation",
        "momentum_dtype",
        "variance_dtype",
        "compensation_buffer_dtype",
    ),
    "grokadamw": ("alpha_init", "lamb", "gamma", "grokking_signal_decay_rate", "gradient_clipping"),
    "stable_adamw": ("decouple_lr", "max_lr", "kahan_sum"),
    **dict.fromkeys(("ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit"), _EMAS),
    **dict.fromkeys(("adamw_torch_4bit", "adamw_torch_8bit"), _TORCHAO),
    **dict.fromkeys(("schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd"), _SCHEDULE_FREE),
    **dict.fromkeys((*_GALORE, *(f"{name}_layerwise" for name in _GALORE)), _LOW_RANK),
    **dict.fromkeys(("apollo_adamw", "apollo_adamw_layerwise"), (*_LOW_RANK, "proj", "scale_type")),
}
"""What optimizers read of `optim_args`; all that is not here reads none of it, but for the RMSprop of bitsandbytes,
which gets all of it."""
_ANY_ARGS = ("rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit")
WITH_TARGETS = tuple(name for name in OPTIM_ARGS if name.startswith(("galore", "apollo")))
"""Those that read `optim_target_modules`."""

_READS_ARGS = (*OPTIM_ARGS, *_ANY_ARGS)

OPTIMIZER_RULES = (
    *(
        Rule(
            f"!has(self.arguments.optim) || self.{field} == {_DEFAULTS[field]!r} "
            f"|| self.arguments.optim in {list(optimizers)}",
            f"{field} has no effect with the optimizer of arguments.optim: leave {field} out, or choose an AdamW",
            field,
        )
        for field, optimizers in READERS.items()
    ),
    Rule(
        "!has(self.arguments.optim_args) "
        f"|| (has(self.arguments.optim) ? self.arguments.optim : '{DEFAULT_OPTIMIZER}') in {list(_READS_ARGS)}",
        f"optim_args has no effect with this optimizer, {DEFAULT_OPTIMIZER} where arguments.optim names none: choose "
        f"one that reads it, such as {_READS_ARGS[0]}, or leave optim_args out",
        "arguments.optim_args",
    ),
)
"""Of `training`."""
