"""Parts of batch inference: units of work, prompts, rows of output. The path through them is `infer.py`."""
