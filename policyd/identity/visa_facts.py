"""What the verified visas of one passport come to: accreditations and projects (domain.md section 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from policyd.identity.jwks import Issuer
from policyd.identity.visa_conditions import alternatives
from policyd.model import AccreditationLevel, Instant, VisaAccreditation, VisaProject, Visas

REQUESTED_TTL_S = 60
"""How long what a visa gives may still be used after the decision: the longest life of an answer."""

AFFILIATION = "AffiliationAndRole"
LINK = "LinkedIdentities"
AUTHORITIES = ("self", "peer", "system", "so", "dac")
"""The vocabulary of `by`; a visa without it was asserted by nobody knows whom."""
BY_MANDATORY = frozenset({"AcceptedTermsAndPolicies", "ControlledAccessGrants"})

_FOREVER = 1 << 40
_NEVER = 0

Identity = tuple[str, str]
"""An issuer and a subject."""


@dataclass(frozen=True, slots=True)
class Visa:
    """One visa whose signature, issuer and source are trusted; times are seconds.

    ``conditions`` is None where there are none, else as it stands in the visa.
    """

    identity: Identity
    type: str
    value: str
    source: str
    by: str
    asserted: int
    expires: int
    conditions: object = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Which visas count for one thing: type, source and, unless empty, value to the letter.

    ``by`` are the authorities that do, any where it is empty. ``max_age_s`` counts from `asserted`.
    """

    type: str
    source: str
    max_age_s: int
    value: str = ""
    by: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class VisaIssuer:
    """Who signs visas, and for which sources it may."""

    issuer: Issuer
    sources: frozenset[str]


@dataclass(frozen=True, slots=True)
class VisaTrust:
    """Whose visas are believed, and what they mean here.

    ``brokers`` are the token issuers that may carry them. A link says that two identities are one person;
    an affiliation is to a domain that belongs to an organisation; training is for a scheme, and where any is
    stated nobody is accredited without; a project is an agreement; a supervisor is named by the value.
    """

    brokers: frozenset[str]
    issuers: tuple[VisaIssuer, ...]
    accreditations: tuple[tuple[Evidence, str, AccreditationLevel], ...] = ()
    affiliations: tuple[tuple[Evidence, str, str], ...] = ()
    training: tuple[tuple[Evidence, str], ...] = ()
    projects: tuple[tuple[Evidence, str], ...] = ()
    supervisors: tuple[Evidence, ...] = ()
    links: tuple[Evidence, ...] = ()


def derive(visas: Sequence[Visa], identity: Identity, *, trust: VisaTrust, now: Instant) -> Visas:
    """Return what `visas` say of the person with this issuer and subject; what is over at `now` is left out.

    A fact ends `REQUESTED_TTL_S` before the first of the visas that it rests on is over, so that in force
    means ``now + requestedTTL < min(exp, asserted + maxAuthzTTL)``. Leaving out a visa never gives more.
    """
    passport = _Passport(visas, identity, trust)
    accreditations: dict[tuple[object, ...], VisaAccreditation] = {}
    projects: dict[tuple[object, ...], VisaProject] = {}
    for fact in passport.accreditations():
        key = (
            fact.scheme,
            fact.level.value,
            fact.organisation,
            fact.from_at,
            fact.source,
            fact.supervisor or (),
        )
        if fact.until_at > max(now, accreditations[key].until_at if key in accreditations else now):
            accreditations[key] = fact
    for grant in passport.projects():
        name = (grant.agreement, grant.from_at, grant.source)
        if grant.until_at > max(now, projects[name].until_at if name in projects else now):
            projects[name] = grant
    return Visas(
        accreditations=tuple(accreditations[key] for key in sorted(accreditations)),
        projects=tuple(projects[key] for key in sorted(projects)),
    )


class _Passport:
    """The visas about one person, and how long each is good."""

    def __init__(self, visas: Sequence[Visa], identity: Identity, trust: VisaTrust) -> None:
        self._trust = trust
        reach = _linked(visas, identity, trust)
        self._visas = [(visa, reach[visa.identity]) for visa in visas if visa.identity in reach]
        self._met: dict[int, list[tuple[int, list[list[int]]]]] = {}
        self._plain = [(visa, reach) for visa, reach in self._visas if visa.conditions is None]

    def accreditations(self) -> Iterator[VisaAccreditation]:
        """Yield every accreditation, for each organisation that its conditions tie it to.

        SPEC: one is given to a person at an organisation, so a visa that is tied to none gives none.
        """
        for evidence, scheme, level in self._trust.accreditations:
            trained = self._trained(scheme)
            for visa, until in self._counting(evidence):
                for organisation, tied in self._organisations(visa):
                    for supervisor, named in self._supervisors(level):
                        yield VisaAccreditation(
                            scheme=scheme,
                            level=level,
                            organisation=organisation,
                            from_at=visa.asserted * 1000,
                            until_at=_ms(min(until, tied, trained, named)),
                            source=visa.source,
                            supervisor=supervisor,
                        )

    def projects(self) -> Iterator[VisaProject]:
        """Yield every agreement whose project was granted, with its conditions met if it has any."""
        for evidence, agreement in self._trust.projects:
            for visa, until in self._counting(evidence):
                held = min(until, self._held(visa))
                yield VisaProject(agreement, visa.asserted * 1000, _ms(held), visa.source)

    def _counting(self, evidence: Evidence) -> Iterator[tuple[Visa, int]]:
        """Yield the visas that count for something, and until when, whatever their conditions."""
        for visa, reach in self._visas:
            if _counts(visa, evidence):
                yield visa, min(reach, visa.expires, visa.asserted + evidence.max_age_s)

    def _trained(self, scheme: str) -> int:
        """Return until when the person is trained for a scheme; forever for one that asks for none."""
        asked = [evidence for evidence, wanted in self._trust.training if wanted == scheme]
        if not asked:
            return _FOREVER
        found = (
            min(until, self._held(visa)) for evidence in asked for visa, until in self._counting(evidence)
        )
        return max(found, default=_NEVER)

    def _supervisors(self, level: AccreditationLevel) -> Iterator[tuple[Identity | None, int]]:
        """Yield who may supervise, and nobody: then it is whom the registry names."""
        yield None, _FOREVER
        if level is AccreditationLevel.PROVISIONAL:
            for evidence in self._trust.supervisors:
                for visa, until in self._counting(evidence):
                    named = _identities(visa.value)
                    if len(named) == 1:
                        yield named[0], min(until, self._held(visa))

    def _held(self, visa: Visa) -> int:
        """Return until when a visa's conditions hold; forever where it has none, never where none holds."""
        if visa.conditions is None:
            return _FOREVER
        return max((until for until, _ in self._alternatives(visa)), default=_NEVER)

    def _alternatives(self, visa: Visa) -> Sequence[tuple[int, list[list[int]]]]:
        """Return each alternative of a visa's conditions that holds, until when, and what meets it."""
        # Worked out once for each visa: patterns are what takes time here.
        if id(visa) not in self._met:
            plain = [each for each, _ in self._plain]
            self._met[id(visa)] = [
                (min(max(self._good(at) for at in clause) for clause in met), met)
                for met in alternatives(visa.conditions, plain)
            ]
        return self._met[id(visa)]

    def _good(self, at: int) -> int:
        visa, reach = self._plain[at]
        return min(visa.expires, reach)

    def _organisations(self, visa: Visa) -> Iterator[tuple[str, int]]:
        """Yield the organisations that a visa's conditions tie it to, and until when."""
        if visa.conditions is None:
            return
        for until, met in self._alternatives(visa):
            for clause in met:
                for at in clause:
                    for organisation, affiliated in self._affiliations(at):
                        yield organisation, min(until, affiliated)

    def _affiliations(self, at: int) -> Iterator[tuple[str, int]]:
        visa, reach = self._plain[at]
        domain = visa.value.partition("@")[2]
        for evidence, known, organisation in self._trust.affiliations:
            if domain == known and _counts(visa, evidence):
                yield organisation, min(reach, visa.expires, visa.asserted + evidence.max_age_s)


def _ms(until_s: int) -> Instant:
    return (until_s - REQUESTED_TTL_S) * 1000


def _counts(visa: Visa, evidence: Evidence) -> bool:
    # SECURITY: compared whole and to the letter; nothing is fetched, folded or normalised.
    return (
        visa.type == evidence.type
        and visa.source == evidence.source
        and (not evidence.value or visa.value == evidence.value)
        and (not evidence.by or visa.by in evidence.by)
    )


def _linked(visas: Sequence[Visa], identity: Identity, trust: VisaTrust) -> dict[Identity, int]:
    """Return every identity that trusted visas say is this person, and until when (seconds)."""
    links = []
    for visa in visas:
        for evidence in trust.links:
            if visa.conditions is None and _counts(visa, evidence):
                until = min(visa.expires, visa.asserted + evidence.max_age_s)
                links.append(((visa.identity, *_identities(visa.value)), until))
    reach = {identity: _FOREVER}
    moved = True
    while moved:
        moved = False
        for together, until in links:
            best = min(until, max(reach.get(each, _NEVER) for each in together))
            for each in together:
                if best > reach.get(each, _NEVER):
                    reach[each] = best
                    moved = True
    return reach


def _identities(value: str) -> list[Identity]:
    """Read `sub,iss;sub,iss`, each part URI-encoded; what has another form is left out."""
    found = []
    for entry in value.split(";"):
        subject, parted, issuer = entry.partition(",")
        if parted and subject and issuer and "," not in issuer:
            # Bytes that are no UTF-8 come out as a sign that stands in no name.
            found.append((unquote(issuer), unquote(subject)))
    return found
