"""THE schema: spec and status of both kinds. The CRDs are generated from it."""
