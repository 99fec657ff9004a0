"""One workload, written once and translated for every engine that the bench compares."""
