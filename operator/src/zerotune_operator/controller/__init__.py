"""The operator on a cluster: it watches, reconciles, writes status."""
