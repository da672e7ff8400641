"""How much memory a job takes, and which ZeRO candidate fits. Torch-free and pure."""
