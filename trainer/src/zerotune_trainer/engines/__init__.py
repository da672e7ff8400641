"""Inference engines: how a batch of prompts becomes a batch of texts."""
