"""How much memory a job takes, and which ZeRO rung fits. Torch-free and pure."""
