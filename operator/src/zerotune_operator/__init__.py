"""The operator, its command line and its backends: spec in, pods (or processes, or SageMaker jobs) out."""
