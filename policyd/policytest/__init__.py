"""Policy tests: the cases that lie beside the policies, run against the compiled set."""
