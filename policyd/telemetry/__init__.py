"""Spans: what they say, where they go, and the thread that makes them of committed records."""
