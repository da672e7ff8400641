"""The local backend: nodes are processes on loopback addresses, state is one folder a person can read."""
