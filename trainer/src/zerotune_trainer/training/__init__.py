"""What the training path is made of: arguments, batches, checkpoints, evaluation, records of the way."""
