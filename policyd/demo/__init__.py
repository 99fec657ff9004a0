"""The demo: a synthetic pupil database, a data service that asks before every query, and its story."""
