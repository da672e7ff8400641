"""The modules of which ranks are made, by name: an import statement would make torch a dependency of the launcher."""

ENVIRONMENT = "zerotune_trainer.launching.environment"

PAYLOADS = {"TrainConfig": "zerotune_trainer.train", "InferConfig": "zerotune_trainer.infer"}
"""By the kind of configuration, what does the job: the function of the module's own name (`train`, `infer`)."""
