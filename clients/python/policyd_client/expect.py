"""What every reader of an answer checks: the parts of a message are known, and numbers make sense."""

from __future__ import annotations

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet


class Unexpected(Exception):
    """The answer is not one that this client may act on; the text says what is wrong with it."""


def refuse_unknown(message: Message, what: str) -> None:
    """Refuse parts that a later version of the protocol may have added: they could be restrictions.

    Raises:
        Unexpected: `message`, called `what`, has such a part.
    """
    if len(UnknownFieldSet(message)):
        raise Unexpected(f"{what} has a part that is not known")


def at_least(least: int, amount: int, what: str) -> int:
    """Return `amount`, the number of `what`.

    Raises:
        Unexpected: it is below `least`.
    """
    if amount < least:
        raise Unexpected(f"{what} is {amount}; at least {least} is allowed")
    return amount


def quote(text: str) -> str:
    """Show text from the wire on one line, cut to 80 characters."""
    shown = "".join(c if c.isprintable() and c != "`" else "?" for c in text[:80])
    return f"`{shown}`" if len(text) <= 80 else f"`{shown}…`"
