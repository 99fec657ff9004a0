"""What surrounds every call, outermost first: the one list of interceptors (DESIGN.md section 2)."""
