"""Backends: the same plan on Kubernetes, on SageMaker, or on this machine."""
