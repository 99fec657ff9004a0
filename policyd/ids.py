"""Random identifiers: the one module that draws them."""

from __future__ import annotations

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


def decision_id() -> str:
    """Return a new decision id: 26 characters, sortable by millisecond (ULID layout, lower case)."""
    number = ((time.time_ns() // 1_000_000) << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def change_id() -> str:
    """Return a new id for a change of state: 26 characters, sortable by millisecond."""
    return decision_id()


def trace_id() -> bytes:
    """Return 16 random bytes, not all zero (W3C Trace Context)."""
    while not any(value := os.urandom(16)):
        pass
    return value


def span_id() -> bytes:
    """Return 8 random bytes, not all zero (W3C Trace Context)."""
    while not any(value := os.urandom(8)):
        pass
    return value


def token_id() -> str:
    """Return 32 random hex digits: the ``jti`` of a locally issued token (RFC 7519 section 4.1.7)."""
    return os.urandom(16).hex()
