"""The test bed: a real Kubernetes of one node, built from source, for a Linux machine without Docker."""
