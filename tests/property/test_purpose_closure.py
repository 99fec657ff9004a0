"""Closures and compliance equal a brute force over paths and sets, on random graphs and trees."""

from __future__ import annotations

import random
from dataclasses import dataclass

from policyd.purpose import Level, Purpose, PurposeGraph, combine, complies

GRAPHS = 10_000
TREES = 2_000
SEED = 20260205

Parents = dict[str, list[str]]


@dataclass(frozen=True)
class Stated:
    """One level in the brute force's own terms: sets of names."""

    allowed: frozenset[str]
    conditional: frozenset[str]
    prohibited: frozenset[str]
    states: bool


def seeded() -> random.Random:
    print(f"seed {SEED}")
    return random.Random(SEED)  # noqa: S311  (cases, not secrets)


def draw_parents(rng: random.Random, size: int, most: int) -> Parents:
    """Return a random rooted graph; parents come earlier in a hidden order that the names do not show."""
    names = [f"p{number}" for number in range(size)]
    rng.shuffle(names)
    parents: Parents = {names[0]: []}
    for position in range(1, size):
        count = rng.randint(1, min(most, position))
        parents[names[position]] = rng.sample(names[:position], count)
    return parents


def build(parents: Parents, rng: random.Random) -> PurposeGraph:
    root = next(name for name, above in parents.items() if not above)
    listed = [Purpose(name, name, tuple(above)) for name, above in parents.items()]
    rng.shuffle(listed)
    return PurposeGraph(listed, root)


def paths_up(parents: Parents, name: str) -> list[list[str]]:
    """Enumerate every path from a purpose to the root."""
    if not parents[name]:
        return [[name]]
    return [[name, *path] for above in parents[name] for path in paths_up(parents, above)]


def ancestors(parents: Parents) -> dict[str, set[str]]:
    return {name: {step for path in paths_up(parents, name) for step in path} for name in parents}


def brute_down(above: dict[str, set[str]], names: frozenset[str]) -> set[str]:
    return {name for name in above if above[name] & names}


def brute_answer(above: dict[str, set[str]], levels: list[Stated], declared: set[str]) -> str:
    """Say the rule in words: every stating level, then the prohibitions, then the weakest of all."""
    forbidden: set[str] = set()
    for name in above:
        for level in levels:
            # name covers (is at or above) something that is at or below a prohibited purpose
            if any(name in above[low] and above[low] & level.prohibited for low in above):
                forbidden.add(name)
    stating = [level for level in levels if level.states]
    answers = set()
    for name in declared:
        if name in forbidden:
            answers.add("prohibited")
        elif not stating or not all(above[name] & (level.allowed | level.conditional) for level in stating):
            answers.add("not-allowed")
        elif all(above[name] & level.allowed for level in stating):
            answers.add("full")
        else:
            answers.add("conditional")
    if not answers:
        return "not-allowed"
    return next(word for word in ("prohibited", "not-allowed", "conditional", "full") if word in answers)


def draw_set(rng: random.Random, names: list[str], share: float) -> frozenset[str]:
    return frozenset(name for name in names if rng.random() < share)


def draw_level(rng: random.Random, names: list[str]) -> Stated:
    states = rng.random() < 0.8
    return Stated(
        draw_set(rng, names, 0.3) if states else frozenset(),
        draw_set(rng, names, 0.2) if states else frozenset(),
        draw_set(rng, names, 0.06),
        states,
    )


def test_closures_and_compliance_equal_brute_force_on_random_graphs() -> None:
    """10,000 random graphs, several levels and declared purposes each: no difference."""
    rng = seeded()
    seen = dict.fromkeys(("full", "conditional", "prohibited", "not-allowed"), 0)
    for number in range(GRAPHS):
        parents = draw_parents(rng, rng.randint(1, 9), 3)
        graph = build(parents, rng)
        names = list(parents)
        above = ancestors(parents)
        some = draw_set(rng, names, 0.3)
        assert set(graph.names(graph.down(graph.mask(some)))) == brute_down(above, some), f"graph {number}"
        want_up = {step for name in some for step in above[name]}
        assert set(graph.names(graph.up(graph.mask(some)))) == want_up, f"graph {number}"

        levels = [draw_level(rng, names) for _ in range(rng.randint(0, 3))]
        declared = set(rng.sample(names, min(len(names), rng.choice((0, 1, 1, 1, 2)))))
        masks = [
            Level(
                graph.mask(level.allowed),
                graph.mask(level.conditional),
                graph.mask(level.prohibited),
                states=level.states,
            )
            for level in levels
        ]
        have = complies(combine(graph, masks), graph.mask(declared)).value
        assert have == brute_answer(above, levels, declared), f"graph {number}: {parents} {levels} {declared}"
        seen[have] += 1

    assert min(seen.values()) > GRAPHS // 50, seen  # every verdict is really exercised


def test_the_strict_closure_is_byun_and_lis_on_trees() -> None:
    """On a tree, up(down(PIP)) is the union of descendants and ancestors of each prohibited purpose."""
    rng = seeded()
    for number in range(TREES):
        parents = draw_parents(rng, rng.randint(1, 14), 1)
        graph = build(parents, rng)
        above = ancestors(parents)
        prohibited = draw_set(rng, list(parents), 0.15)
        want = brute_down(above, prohibited) | {step for name in prohibited for step in above[name]}

        have = graph.up(graph.down(graph.mask(prohibited)))

        assert set(graph.names(have)) == want, f"tree {number}: {parents} {prohibited}"


def test_the_strict_closure_only_ever_denies_more_than_the_tree_rule() -> None:
    """On graphs the strict closure contains Byun and Li's, and is sometimes larger."""
    rng = seeded()
    larger = 0
    for number in range(TREES):
        parents = draw_parents(rng, rng.randint(3, 9), 3)
        graph = build(parents, rng)
        above = ancestors(parents)
        prohibited = draw_set(rng, list(parents), 0.15)
        tree_rule = brute_down(above, prohibited) | {step for name in prohibited for step in above[name]}

        strict = set(graph.names(graph.up(graph.down(graph.mask(prohibited)))))

        assert tree_rule <= strict, f"graph {number}: {parents} {prohibited}"
        larger += tree_rule < strict
    assert larger > 0
