"""The questions of the demo, as data: who asks what under which agreement, and what has to come of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from policyd_client import Action

SCHOOL = "{school}"
"""Stands in a query for the number of the sealed pupil's school, which the database decides."""


class Proof(StrEnum):
    """What is checked against the whole database, which the demo holds and the requester does not."""

    NONE = "none"
    OWN_AUTHORITY = "own-authority"
    SEALED_ROWS = "sealed-rows"
    SEALED_COUNTS = "sealed-counts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One question.

    ``outcome`` is release, partial or withhold; or not-asked, when the data service itself refuses the
    statement. ``reasons`` are the reasons of all names that have to be withheld, ``changed`` the
    transforms of all that have to be changed.
    """

    title: str
    why: str
    data_service: str
    requester: str
    agreement: str
    purpose: str
    sql: str
    outcome: str
    reasons: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    years: tuple[int, ...] = ()
    action: Action | None = None
    proof: Proof = Proof.NONE


_RESEARCH_SQL = """\
SELECT p.PupilMatchingRefAnonymous_SPR19 AS pupil, p.UPN_SPR19, p.DOB_SPR19,
       p.Ethnicity_SPR19, p.Postcode_home, k.KS4_ATT8
FROM SC_Pupil p
JOIN KS4 k ON k.KS4_PupilMatchingRefAnonymous = p.PupilMatchingRefAnonymous_SPR19
WHERE p.FSMeligible_SPR19 = 1
ORDER BY k.KS4_ATT8 DESC"""

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        title="An accredited researcher, inside an agreement",
        why="The number that schools use for the pupil is cut; the rest is as coarse as research needs.",
        data_service="npd-secure",
        requester="researcher-1",
        agreement="DS00101",
        purpose="academic-research",
        sql=_RESEARCH_SQL,
        years=(2018,),
        outcome="partial",
        reasons=frozenset({"GATEWAY_PRECONDITION"}),
        changed=frozenset({"pseudonymise", "generalise:month", "generalise:outward-postcode"}),
    ),
    Scenario(
        title="The same question, by a researcher whose accreditation is over",
        why="It ended a month ago; the agreement still names the person.",
        data_service="npd-secure",
        requester="researcher-2",
        agreement="DS00101",
        purpose="academic-research",
        sql=_RESEARCH_SQL,
        years=(2018,),
        outcome="withhold",
        reasons=frozenset({"GATEWAY_PRECONDITION"}),
    ),
    Scenario(
        title="The same, by a provisional researcher whose supervisor is no longer accredited",
        why="A provisional accreditation is as good as the supervisor's.",
        data_service="npd-secure",
        requester="researcher-4",
        agreement="DS00101",
        purpose="academic-research",
        sql=_RESEARCH_SQL,
        years=(2018,),
        outcome="withhold",
        reasons=frozenset({"GATEWAY_PRECONDITION"}),
    ),
    Scenario(
        title="Is this person over 16? Asked by a training provider for age verification",
        why="2018 to 2020: age checks for betting firms were run on a training provider's access.",
        data_service="npd-lookup",
        requester="trainer-1",
        agreement="DS00401",
        purpose="age-verification",
        sql="""\
SELECT EXISTS (
  SELECT 1 FROM KS4
  WHERE KS4_PupilMatchingRefAnonymous = 'pupil-17' AND KS4_DOB <= '2002-11-24'
)""",
        years=(2018,),
        outcome="withhold",
        reasons=frozenset({"PURPOSE_NOT_IN_AGREEMENT"}),
    ),
    Scenario(
        title="A training provider that changed its name a month ago",
        why="Nobody has verified since who stands behind it, so its agreement stands still.",
        data_service="npd-lookup",
        requester="trainer-2",
        agreement="DS00403",
        purpose="attainment-records",
        sql="SELECT KS4_L2BASICS_94 FROM KS4 LIMIT 5",
        years=(2018,),
        outcome="withhold",
        reasons=frozenset({"ORGANISATION_SUSPENDED"}),
    ),
    Scenario(
        title="Dates of birth of pupils, asked by a product that compares schools",
        why="The results come rounded; the birth dates do not come at all.",
        data_service="npd-direct",
        requester="analyst-1",
        agreement="DS00201",
        purpose="school-comparison-product",
        sql="SELECT KS4_ATT8, KS4_DOB FROM KS4 LIMIT 200",
        years=(2018,),
        outcome="partial",
        reasons=frozenset({"DENIED_BY_RULE"}),
        changed=frozenset({"round:10"}),
    ),
    Scenario(
        title="Nationality, asked for immigration enforcement",
        why="Collected 2016 to 2018, withdrawn; the column is still in the catalogue, and always withheld.",
        data_service="npd-lookup",
        requester="caseworker-1",
        agreement="DS00501",
        purpose="immigration-enforcement",
        sql="""\
SELECT Surname_SPR19, EthnicGroupMajor_SPR19, Nationality
FROM SC_Pupil
WHERE Surname_SPR19 = 'Surname 17'""",
        years=(2018,),
        action=Action.MATCH,
        outcome="withhold",
        reasons=frozenset({"FIELD_WITHDRAWN", "PURPOSE_PROHIBITED", "DENIED_BY_RULE"}),
    ),
    Scenario(
        title="Children in need, with their identifiers, in the secure setting",
        why="The official strip list takes numbers and postcode out; the rest is for accredited research.",
        data_service="npd-secure",
        requester="researcher-1",
        agreement="DS00107",
        purpose="academic-research",
        sql="""\
SELECT CIN_PupilMatchingRefAnonymous AS pupil, CIN_UPN, CIN_LAchildID, CIN_PostCode,
       CIN_DOB, CIN_PrimaryNeedCode, CIN_CPPindicator
FROM CIN
WHERE CIN_CPPindicator = 1""",
        years=(2018,),
        outcome="partial",
        reasons=frozenset({"DENIED_BY_RULE"}),
        changed=frozenset({"pseudonymise", "generalise:year"}),
    ),
    Scenario(
        title="Everything about everybody, asked by a newspaper",
        why="2012: a newspaper asked for every variable of every child. Fields are named one by one.",
        data_service="npd-direct",
        requester="journalist-1",
        agreement="DS00801",
        purpose="commercial-research",
        sql="SELECT * FROM SC_Pupil",
        years=(2018,),
        outcome="withhold",
        reasons=frozenset({"FIELD_WILDCARD"}),
    ),
    Scenario(
        title="A local authority and the children it has to protect",
        why="By name, but only its own: the filter is written into the query, whatever the query says.",
        data_service="npd-authority",
        requester="officer-1",
        agreement="DS00301",
        purpose="child-protection",
        sql="""\
SELECT UPN_SPR19, Surname_SPR19, DOB_SPR19, LA_LGR_SPR19
FROM SC_Pupil
WHERE SENprovision_SPR19 = 'E'""",
        outcome="release",
        proof=Proof.OWN_AUTHORITY,
    ),
    Scenario(
        title="A record under seal: rows",
        why="One pupil of this school is sealed. To the researcher that looks like a pupil who is not there.",
        data_service="npd-secure",
        requester="researcher-1",
        agreement="DS00101",
        purpose="academic-research",
        sql="""\
SELECT KS4_PupilMatchingRefAnonymous AS pupil, KS4_ATT8
FROM KS4
JOIN SC_Pupil p ON p.PupilMatchingRefAnonymous_SPR19 = KS4_PupilMatchingRefAnonymous
WHERE p.URN_SPR19 = {school}""",
        years=(2018,),
        outcome="release",
        changed=frozenset({"pseudonymise"}),
        proof=Proof.SEALED_ROWS,
    ),
    Scenario(
        title="A record under seal: counts",
        why="The same school, counted: the sealed pupil is in no cell, and cells under ten are left out.",
        data_service="npd-secure",
        requester="researcher-1",
        agreement="DS00101",
        purpose="academic-research",
        sql="""\
SELECT EthnicGroupMajor_SPR19, COUNT(*) AS pupils
FROM SC_Pupil
WHERE URN_SPR19 = {school}
GROUP BY EthnicGroupMajor_SPR19
ORDER BY pupils DESC""",
        outcome="release",
        proof=Proof.SEALED_COUNTS,
    ),
    Scenario(
        title="Official statistics: free school meals by authority",
        why="Statisticians count; every cell is of ten pupils or more, to the nearest five.",
        data_service="npd-secure",
        requester="statistician-1",
        agreement="DS00702",
        purpose="official-statistics",
        sql="""\
SELECT LA_LGR_SPR19, COUNT(*) AS pupils
FROM SC_Pupil
WHERE FSMeligible_SPR19 = 1
GROUP BY LA_LGR_SPR19
ORDER BY LA_LGR_SPR19""",
        outcome="release",
    ),
    Scenario(
        title="Benchmarking by a charity: absence, in bands",
        why="The filter works on the band as well: nobody can search for the exact number.",
        data_service="npd-direct",
        requester="analyst-2",
        agreement="DS00205",
        purpose="school-benchmarking",
        sql="""\
SELECT OverallAbsence_Annual_ab19, AuthorisedAbsence_Annual_ab19
FROM Absence
WHERE OverallAbsence_Annual_ab19 >= 47
ORDER BY OverallAbsence_Annual_ab19
LIMIT 300""",
        outcome="release",
        changed=frozenset({"band:10"}),
    ),
    Scenario(
        title="A query that the data service cannot work out",
        why="What a query touches has to be known completely before anything is asked.",
        data_service="npd-secure",
        requester="researcher-1",
        agreement="DS00101",
        purpose="academic-research",
        sql="""\
SELECT Gender_SPR19 FROM SC_Pupil
WHERE URN_SPR19 = (SELECT URN_SPR19 FROM SC_Pupil WHERE Surname_SPR19 = 'Surname 17')""",
        outcome="not-asked",
    ),
)
