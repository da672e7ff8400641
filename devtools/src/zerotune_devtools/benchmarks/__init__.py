"""What the benchmarks share: the work that both sides do, and how it is compared."""
