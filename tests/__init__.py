"""The tests; what they share is imported from here, as `tests.e2e.chain` for one."""
