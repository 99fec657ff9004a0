"""The append-only log of decisions and state changes: writer, reader and verifier (docs/ledger.md)."""
