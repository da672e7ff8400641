"""What runs in zerotune's pods: launch, training and inference with DeepSpeed."""
