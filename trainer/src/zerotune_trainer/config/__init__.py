"""What a pod receives: TrainConfig and InferConfig, the `config.json` of its folder.

Torch-free. The operator's spec is made of the same parts, so nothing is described twice.
"""

from zerotune_trainer.config.jobs import (
    RENDEZVOUS_FILE,
    ConfigVersion,
    InferConfig,
    JobIdentity,
    Launch,
    OriginFolder,
    TrainConfig,
    load_config,
    rendezvous_secret,
)

__all__ = [
    "RENDEZVOUS_FILE",
    "ConfigVersion",
    "InferConfig",
    "JobIdentity",
    "Launch",
    "OriginFolder",
    "TrainConfig",
    "load_config",
    "rendezvous_secret",
]
