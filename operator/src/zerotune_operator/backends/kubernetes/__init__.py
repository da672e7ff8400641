"""The Kubernetes backend: an Indexed Job an attempt, with one headless Service for names."""
