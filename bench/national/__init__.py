"""What bench/scale.py measures: a registry of national size, made from a seed."""
