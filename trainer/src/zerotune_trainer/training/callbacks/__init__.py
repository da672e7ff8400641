"""What happens around a step, each concern by itself, over one `StepState`.

metrics_logger.py  `metrics.jsonl`, and progress for the launcher
finite_loss.py     a loss that is not finite ends the job
saving.py          when to evaluate and save: once a step, and the state that evaluates best
stopping.py        all ranks stop together, with a checkpoint
forgetting.py      the perplexity of control texts may rise so far and no further

They are called in this order: the later ones see what the earlier ones decided. All are transformers' callbacks, so a
loop other than Trainer's, such as that of a pipeline engine, drives them by the same events.
"""
