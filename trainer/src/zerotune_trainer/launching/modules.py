"""The modules of which ranks are made, by name: an import statement would make torch a dependency of the launcher."""

ENVIRONMENT = "zerotune_trainer.launching.environment"

PAYLOADS = {"TrainConfig": "zerotune_trainer.train", "InferConfig": "zerotune_trainer.infer"}
"""By the kind of configuration, what does the job: the function of the module's own name (`train`, `infer`)."""

_SCRIPT = "zerotune_trainer.script"


def payload_of(kind: str, method: str | None) -> str:
    """The module that does a job.

    Args:
        kind: Of its configuration.
        method: Of a FineTuneJob.
    """
    return _SCRIPT if method == "script" else PAYLOADS[kind]
