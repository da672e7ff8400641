"""Texts that a model in training generates with each evaluation.

prompts.py    records -> prompts and references
generator.py  prompts -> texts, by all ranks, whatever the ZeRO stage
metrics.py    texts and references -> figures
"""
