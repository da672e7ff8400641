"""The images, as `make images` builds and `make push` pushes them. Needs the standard library alone."""

REGISTRY = "zerotune.dev"
"""What the names of images begin with until they are pushed."""
NONE_BUILT = f"there is no image named {REGISTRY}/...: build them with `make images`"
