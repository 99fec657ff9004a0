"""Who takes part in the demo: the registry to apply, dated from today, with one pupil under seal."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from string import Template

from policyd.demo.transforms import seal_token
from policyd.model import Instant

SETTINGS: Mapping[str, str] = {
    "npd-secure": "secure-research",
    "npd-direct": "direct-supply",
    "npd-lookup": "lookup",
    "npd-authority": "authority",
}
"""The data services of the demo and their settings, as registry.yaml registers them."""

REGISTRY_FILE = "registry.yaml"

_SEALED_AUTHORITY = "301"


def registry_text(*, now: Instant, database: Path, seal_keys: Mapping[str, bytes]) -> str:
    """Return the demo's registry file with its dates and its seal filled in.

    ``seal_keys`` holds the token key of every data service in ``SETTINGS``.
    """
    today = datetime.fromtimestamp(now / 1000, tz=UTC).date()
    shifts = {"days_ago_30": -30}
    for years in range(1, 5):
        shifts[f"years_ago_{years}"] = -365 * years
        shifts[f"years_ahead_{years}"] = 365 * years
    dates = {name: (today + timedelta(days=days)).isoformat() for name, days in shifts.items()}
    text = files("policyd.demo").joinpath(REGISTRY_FILE).read_text("utf-8")
    reference, _ = sealed_pupil(database)
    tokens = (f'      {service}: "{seal_token(seal_keys[service], reference).hex()}"' for service in SETTINGS)
    seal = ["seals:", "  - id: SEAL-1", "    tokens:", *tokens]
    return Template(text).substitute(dates) + "\n".join(seal) + "\n"


def sealed_pupil(database: Path) -> tuple[str, int]:
    """Return the reference of the pupil whose record the demo puts under seal, and the school's number.

    It is one who took KS4 in 2018/19 at the school of authority 301 where most did.
    """
    with closing(sqlite3.connect(database)) as connection:
        row: tuple[str, int] = connection.execute(
            """
            SELECT min(KS4_PupilMatchingRefAnonymous), KS4_URN FROM KS4
            WHERE KS4_LA = ? AND KS4_ACADYR = '2018/2019'
            GROUP BY KS4_URN ORDER BY count(*) DESC, KS4_URN LIMIT 1
            """,
            (_SEALED_AUTHORITY,),
        ).fetchone()
    return row
