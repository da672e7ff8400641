"""What zerotune is built, tested and measured with. It works in a checkout only, and the product never imports it.

images/      `make images` and `make push`, with the standard library alone: they need no environment
bed/         a Kubernetes of one node, built from source
cluster      the cluster for tests: one that was named, kind, or the bed
chart        the chart, through helm
harness/     what tests and benchmarks on a cluster share
benchmarks/  what benchmarks share
"""
