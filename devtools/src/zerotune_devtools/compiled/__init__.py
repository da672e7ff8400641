"""DeepSpeed's compiled operators, for tests and benchmarks: compiled once on a machine."""
