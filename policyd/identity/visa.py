"""Verifies the GA4GH visas that a requester's token carries, each on its own (GA4GH Passport v1.2)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from policyd.errors import ConfigError, TokenError
from policyd.identity.claims import TokenFault, is_name, read_header, read_seconds
from policyd.identity.jwks_source import Keyring
from policyd.identity.jws import open_compact
from policyd.identity.visa_facts import AUTHORITIES, BY_MANDATORY, Identity, Visa, VisaTrust, derive
from policyd.model import NO_VISAS, Instant, Visas

PASSPORT = "ga4gh_passport_v1"
MAX_VISAS = 16
MAX_VALUE = 255

_TYPES = frozenset({"vnd.ga4gh.visa+jwt", "application/vnd.ga4gh.visa+jwt"})
_LOG = logging.getLogger(__name__)


class VisaFault(StrEnum):
    """Why a visa counts for nothing, besides what can be wrong with any token (`TokenFault`)."""

    BROKER = "broker"
    SOURCE = "source"
    VISA = "visa"


@dataclass(frozen=True, slots=True)
class Passport:
    """What the visas of one token come to, and whose keys that rests on.

    ``whole`` says that no visa was left out because keys could not be fetched.
    """

    visas: Visas = NO_VISAS
    issuers: frozenset[str] = frozenset()
    whole: bool = True


NO_PASSPORT = Passport()


class VisaVerifier:
    """Verifies passports under one configuration. Safe for many threads."""

    def __init__(self, trust: VisaTrust, *, audience: str, skew_s: int) -> None:
        """Read the issuers' keys.

        ``audience`` is what a visa must name if it names any; ``skew_s`` how far clocks may differ.

        Raises:
            ConfigError: two issuers of one name, or one that cannot be used.
        """
        issuers = [each.issuer for each in trust.issuers]
        if len({issuer.issuer for issuer in issuers}) != len(issuers):
            raise ConfigError("two visa issuers have one name; `iss` must lead to one set of keys")
        self.keyring = Keyring(issuers)
        self._trust = trust
        self._audience = audience
        self._skew_s = skew_s
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._sources = {each.issuer.issuer: each.sources for each in trust.issuers}

    def open(self, claim: object, *, bearer: Identity, now: Instant) -> Passport:
        """Return what the passport in a verified token comes to; visas that do not hold are left out.

        ``claim`` is the token's `ga4gh_passport_v1`, ``bearer`` its issuer and subject.

        Raises:
            TokenError: `claims`, it is no list of at most ``MAX_VISAS`` texts.
        """
        if bearer[0] not in self._trust.brokers:
            self._tell(bearer[0], [VisaFault.BROKER])
            return NO_PASSPORT
        if (
            not isinstance(claim, list)
            or len(claim) > MAX_VISAS
            or not all(isinstance(each, str) for each in claim)
        ):
            raise TokenError(TokenFault.CLAIMS)
        held: list[Visa] = []
        faults: list[str] = []
        for text in claim:
            try:
                held.append(self.verify(text, now=now))
            except TokenError as error:
                faults.append(error.code)
        self._tell(bearer[0], faults)
        return Passport(
            visas=derive(held, bearer, trust=self._trust, now=now),
            issuers=frozenset(visa.identity[0] for visa in held),
            whole=TokenFault.KEYS_STALE not in faults,
        )

    def check_fresh(self, passport: Passport) -> None:
        """Check that every key that a passport rests on may still be used.

        Raises:
            TokenError: `keys-stale`.
        """
        for issuer in passport.issuers:
            self.keyring.check_fresh(issuer)

    def verify(self, text: str, *, now: Instant) -> Visa:
        """Return one visa if its issuer is trusted, may speak for its source, and it has begun.

        Raises:
            TokenError: ``code`` is a `TokenFault` or a `VisaFault`.
        """
        issuer, payload = open_compact(
            text,
            self._issuers,
            keyring=self.keyring,
            # GA4GH has issuers name their keys in `jku`; it is allowed, and never followed.
            read_header=partial(read_header, types=_TYPES, ignored=frozenset({"jku"})),
        )
        subject = payload.get("sub")
        if not is_name(subject):
            raise TokenError(TokenFault.CLAIMS)
        issued, expires = read_seconds(payload.get("iat")), read_seconds(payload.get("exp"))
        begins = max(issued, read_seconds(payload["nbf"]) if "nbf" in payload else issued)
        audience = payload.get("aud", self._audience)
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise TokenError(TokenFault.AUDIENCE)
        if begins * 1000 > now + self._skew_s * 1000:
            raise TokenError(TokenFault.NOT_YET_VALID)
        if now >= expires * 1000:
            raise TokenError(TokenFault.EXPIRED)
        visa = _read_visa(payload.get("ga4gh_visa_v1"), (issuer.issuer, str(subject)), expires=expires)
        # It cannot have been asserted after it was signed.
        if visa.asserted > issued:
            raise TokenError(VisaFault.VISA)
        if visa.source not in self._sources[issuer.issuer]:
            raise TokenError(VisaFault.SOURCE)
        return visa

    def _tell(self, broker: str, faults: Sequence[str]) -> None:
        if faults:
            counted = ", ".join(f"{code} {count}" for code, count in sorted(Counter(faults).items()))
            _LOG.info("visas in a token of %s that count for nothing: %s", broker, counted)


def _read_visa(claim: object, identity: Identity, *, expires: int) -> Visa:
    if not isinstance(claim, dict):
        raise TokenError(VisaFault.VISA)
    kind, value, source = (_text(claim.get(name)) for name in ("type", "value", "source"))
    by = _text(claim["by"]) if "by" in claim else ""
    if (by and by not in AUTHORITIES) or (not by and kind in BY_MANDATORY):
        raise TokenError(VisaFault.VISA)
    return Visa(
        identity=identity,
        type=kind,
        value=value,
        source=source,
        by=by,
        asserted=read_seconds(claim.get("asserted")),
        expires=expires,
        conditions=_conditions(claim),
    )


def _conditions(claim: dict[str, object]) -> object:
    # SECURITY: a condition of null must not read as having none (test_a_condition_of_any_form_is_one).
    if "conditions" not in claim:
        return None
    return [] if claim["conditions"] is None else claim["conditions"]


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_VALUE or not value.isprintable():
        raise TokenError(VisaFault.VISA)
    return value
