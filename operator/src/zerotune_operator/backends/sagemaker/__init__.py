"""Training jobs of Amazon SageMaker, one an attempt."""
