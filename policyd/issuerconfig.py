"""Reads the parts of `policyd.yaml` that say whose tokens and visas are believed (docs/visas.md)."""

from __future__ import annotations

from pathlib import Path

from policyd.identity.fetch import check_fetch_url
from policyd.identity.jwks import ALGORITHMS, Issuer, RemoteJwks
from policyd.identity.visa import MAX_VALUE
from policyd.identity.visa_facts import AFFILIATION, AUTHORITIES, LINK, Evidence, VisaIssuer, VisaTrust
from policyd.model import AccreditationLevel
from policyd.policy.reader import CODE, ID, Reader
from policyd.policy.source import Node

_OFFICIAL = ("system", "so", "dac")
"""Who may assert what states nobody: the organisation, and not the person or a colleague."""
_DAY_S = 24 * 60 * 60
_MAX_DAYS = 5 * 366
_YEAR_DAYS = 365
"""For what states no other: whoever was not confirmed for a year may have left."""


def read_issuer(reader: Reader, node: Node, data: Path) -> Issuer:
    """Read one token issuer; paths are taken from the data directory."""
    fields = reader.mapping(node, required={"issuer", "jwks", "algorithms"}, optional={"audience"})
    return _issuer(reader, fields, data)


def read_visas(reader: Reader, node: Node, data: Path) -> VisaTrust:
    """Read whose visas are believed and what they mean; paths are taken from the data directory."""
    fields = reader.mapping(
        node,
        required={"brokers", "issuers", "affiliations", "accreditations"},
        optional={"training", "projects", "supervisors", "linked_identities"},
    )
    issuers = tuple(_visa_issuer(reader, entry, data) for entry in reader.entries(fields["issuers"]))
    if len({each.issuer.issuer for each in issuers}) != len(issuers):
        reader.fail(fields["issuers"], "two visa issuers have one name; `iss` must lead to one set of keys")
    trust = VisaTrust(
        brokers=frozenset(reader.texts(fields["brokers"])),
        issuers=issuers,
        affiliations=tuple(_affiliation(reader, each) for each in reader.entries(fields["affiliations"])),
        accreditations=tuple(
            _accreditation(reader, each) for each in reader.entries(fields["accreditations"])
        ),
        training=tuple(_training(reader, each) for each in reader.entries(fields.get("training"))),
        projects=tuple(_project(reader, each) for each in reader.entries(fields.get("projects"))),
        supervisors=tuple(_supervisor(reader, each) for each in reader.entries(fields.get("supervisors"))),
        links=tuple(_link(reader, each) for each in reader.entries(fields.get("linked_identities"))),
    )
    _check_sources(reader, fields, trust)
    return trust


def _issuer(reader: Reader, fields: dict[str, Node], data: Path) -> Issuer:
    algorithms = reader.each(fields["algorithms"], lambda entry: reader.one_of(entry, sorted(ALGORITHMS)))
    return Issuer(
        issuer=reader.text(fields["issuer"]),
        jwks=_jwks(reader, fields["jwks"], data),
        algorithms=algorithms,
        audience=reader.text(fields.get("audience")),
    )


def _jwks(reader: Reader, node: Node, data: Path) -> Path | RemoteJwks:
    """Read where keys are: a path, a URL, or a URL with what goes with it."""
    if not isinstance(node.value, dict):
        text = reader.text(node)
        return RemoteJwks(_url(reader, node)) if "://" in text else data.absolute() / text
    fields = reader.mapping(node, required={"url"}, optional={"authority", "refresh_s", "stale_after_s"})
    authority = data.absolute() / reader.text(fields["authority"]) if "authority" in fields else None
    remote = RemoteJwks(
        url=_url(reader, fields["url"]),
        authority=authority,
        refresh_s=reader.integer(fields.get("refresh_s"), minimum=30, maximum=3600, default=300),
        stale_after_s=reader.integer(fields.get("stale_after_s"), minimum=60, maximum=86400, default=900),
    )
    if remote.stale_after_s < 2 * remote.refresh_s:
        reader.fail(node, "`stale_after_s` must be at least twice `refresh_s`, or one lost fetch ends it all")
    return remote


def _url(reader: Reader, node: Node) -> str:
    text = reader.text(node)
    try:
        if text:
            check_fetch_url(text)
    except ValueError as error:
        reader.fail(node, str(error))
    return text


def _visa_issuer(reader: Reader, node: Node, data: Path) -> VisaIssuer:
    fields = reader.mapping(node, required={"issuer", "jwks", "algorithms", "sources"})
    return VisaIssuer(_issuer(reader, fields, data), frozenset(reader.texts(fields["sources"])))


def _affiliation(reader: Reader, node: Node) -> tuple[Evidence, str, str]:
    fields = reader.mapping(
        node, required={"source", "domain", "organisation"}, optional={"by", "max_age_days"}
    )
    evidence = _evidence(reader, fields, kind=AFFILIATION)
    return evidence, reader.text(fields["domain"]), reader.ident(fields["organisation"], ID)


def _accreditation(reader: Reader, node: Node) -> tuple[Evidence, str, AccreditationLevel]:
    fields = reader.mapping(
        node, required={"type", "value", "source", "by", "scheme", "level", "max_age_days"}
    )
    level = reader.one_of(fields["level"], AccreditationLevel)
    return _evidence(reader, fields), reader.ident(fields["scheme"], ID), level


def _training(reader: Reader, node: Node) -> tuple[Evidence, str]:
    fields = reader.mapping(node, required={"type", "value", "source", "by", "scheme", "max_age_days"})
    return _evidence(reader, fields), reader.ident(fields["scheme"], ID)


def _project(reader: Reader, node: Node) -> tuple[Evidence, str]:
    fields = reader.mapping(node, required={"type", "value", "source", "by", "agreement", "max_age_days"})
    return _evidence(reader, fields), reader.ident(fields["agreement"], CODE)


def _supervisor(reader: Reader, node: Node) -> Evidence:
    fields = reader.mapping(node, required={"type", "source", "by"}, optional={"max_age_days"})
    return _evidence(reader, fields)


def _link(reader: Reader, node: Node) -> Evidence:
    fields = reader.mapping(node, required={"source"}, optional={"by", "max_age_days"})
    return _evidence(reader, fields, kind=LINK)


def _evidence(reader: Reader, fields: dict[str, Node], *, kind: str = "") -> Evidence:
    days = reader.integer(fields.get("max_age_days"), minimum=1, maximum=_MAX_DAYS, default=_YEAR_DAYS)
    by = reader.each(fields.get("by"), lambda entry: reader.one_of(entry, AUTHORITIES))
    if "by" not in fields:
        by = _OFFICIAL
    if "by" in fields and isinstance(fields["by"].value, tuple) and not by:
        reader.fail(fields["by"], f"name who may assert it, among {', '.join(AUTHORITIES)}")
    return Evidence(
        type=kind or _word(reader, fields["type"]),
        source=_word(reader, fields["source"]),
        max_age_s=days * _DAY_S,
        value=_word(reader, fields["value"]) if "value" in fields else "",
        by=frozenset(by),
    )


def _word(reader: Reader, node: Node) -> str:
    text = reader.text(node)
    if len(text) > MAX_VALUE:
        reader.fail(node, f"is longer than the {MAX_VALUE} characters that a visa can hold")
    return text


def _check_sources(reader: Reader, fields: dict[str, Node], trust: VisaTrust) -> None:
    """What comes from a source that no issuer may speak for could never count: a slip of the pen."""
    known = {source for each in trust.issuers for source in each.sources}
    named = [
        *(("affiliations", each[0].source) for each in trust.affiliations),
        *(("accreditations", each[0].source) for each in trust.accreditations),
        *(("training", each[0].source) for each in trust.training),
        *(("projects", each[0].source) for each in trust.projects),
        *(("supervisors", each.source) for each in trust.supervisors),
        *(("linked_identities", each.source) for each in trust.links),
    ]
    for section, source in named:
        if source and source not in known:
            reader.fail(fields[section], f"`{source}` is a source that none of the visa issuers has")
