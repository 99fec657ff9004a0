"""Several nodes under load and faults, and what judges the history that they leave."""
