"""What tests and benchmarks on a cluster share: zerotune installed, a volume with data, jobs, an API server asked."""
