"""The tree is that of RFC 9162, and no corrupted proof is accepted."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from policyd import merkle

VECTORS = Path(__file__).parents[1] / "vectors" / "merkle"
ROOTS = json.loads((VECTORS / "roots.json").read_text("utf-8"))
INCLUSION = json.loads((VECTORS / "inclusion.json").read_text("utf-8"))["cases"]
CONSISTENCY = json.loads((VECTORS / "consistency.json").read_text("utf-8"))["cases"]
LARGEST = 33


def naive_root(leaves: list[bytes]) -> bytes:
    """The definition of RFC 9162 section 2.1.1, word for word."""
    if not leaves:
        return merkle.EMPTY_ROOT
    if len(leaves) == 1:
        return merkle.leaf_hash(leaves[0])
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return merkle.node_hash(naive_root(leaves[:half]), naive_root(leaves[half:]))


class Tree:
    """A growing tree that keeps every complete subtree, as the store does."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.frontier = merkle.Frontier()
        self.roots = [self.frontier.root()]
        for index, leaf in enumerate(leaves):
            for level, hashed in enumerate(self.frontier.push(merkle.leaf_hash(leaf))):
                self.nodes[level, index >> level] = hashed
            self.roots.append(self.frontier.root())

    def read(self, level: int, position: int) -> bytes:
        return self.nodes[level, position]


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree([f"leaf {number}".encode() for number in range(LARGEST)])


def test_roots_are_those_of_the_reference_leaves() -> None:
    """The first n reference leaves of Certificate Transparency give the published roots."""
    have = Tree([bytes.fromhex(leaf) for leaf in ROOTS["leaves"]]).roots

    assert [root.hex() for root in have] == ROOTS["roots"]
    assert ROOTS["roots"][8] == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_grown_tree_equals_the_recursive_definition(tree: Tree) -> None:
    """Whatever the size, growing a tree leaf by leaf gives the root of the recursive definition."""
    for size in range(LARGEST + 1):
        assert tree.roots[size] == naive_root(tree.leaves[:size]), size
        assert merkle.root_at(size, tree.read) == tree.roots[size], size


def test_random_trees_equal_the_recursive_definition() -> None:
    """Random leaves and sizes agree with the recursive definition, reloading the frontier on the way."""
    seed = 20261124
    chance = random.Random(seed)  # noqa: S311  # seeded test data
    for _ in range(40):
        leaves = [chance.randbytes(chance.randrange(0, 70)) for _ in range(chance.randrange(0, 200))]
        tree = Tree(leaves)
        cut = chance.randint(0, len(leaves))
        resumed = merkle.load_frontier(cut, tree.read)
        for leaf in leaves[cut:]:
            resumed.push(merkle.leaf_hash(leaf))
        assert resumed.root() == naive_root(leaves), f"seed {seed}, {len(leaves)} leaves, cut at {cut}"


def test_a_frontier_names_its_complete_subtrees(tree: Tree) -> None:
    """Level and position of each peak are those under which a store keeps it."""
    for size in range(LARGEST + 1):
        nodes = merkle.load_frontier(size, tree.read).nodes()

        assert nodes == {place: tree.nodes[place] for place in nodes}
        assert sum(1 << level for level, _ in nodes) == size


def test_a_copied_frontier_grows_alone(tree: Tree) -> None:
    """What is pushed to a copy does not reach the original."""
    original = merkle.load_frontier(LARGEST - 1, tree.read)
    copied = original.copy()
    copied.push(merkle.leaf_hash(tree.leaves[LARGEST - 1]))

    assert (original.size, original.root()) == (LARGEST - 1, tree.roots[LARGEST - 1])
    assert (copied.size, copied.root()) == (LARGEST, tree.roots[LARGEST])


def test_every_record_has_a_proof_in_every_tree(tree: Tree) -> None:
    """Each index has an inclusion proof in each size above it, and it verifies."""
    for size in range(1, LARGEST + 1):
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, tree.read)
            hashed = merkle.leaf_hash(tree.leaves[index])
            assert merkle.verify_inclusion(hashed, index, size, proof=proof, root=tree.roots[size])


def test_every_tree_continues_every_smaller_one(tree: Tree) -> None:
    """Each pair of sizes has a consistency proof, and it verifies."""
    for size in range(LARGEST + 1):
        for old in range(size + 1):
            proof = merkle.consistency_proof(old, size, tree.read)
            assert merkle.verify_consistency(
                old, tree.roots[old], size=size, root=tree.roots[size], proof=proof
            ), (old, size)


@pytest.mark.parametrize("case", INCLUSION, ids=lambda c: f"{c['index']}-of-{c['size']}-{c['name']}")
def test_inclusion_vector(case: dict[str, Any]) -> None:
    """A proof is accepted if and only if the vector says so."""
    have = merkle.verify_inclusion(
        bytes.fromhex(case["leaf_hash"]),
        case["index"],
        case["size"],
        proof=[bytes.fromhex(each) for each in case["proof"]],
        root=bytes.fromhex(case["root"]),
    )

    assert have is case["valid"]


@pytest.mark.parametrize("case", CONSISTENCY, ids=lambda c: f"{c['old_size']}-to-{c['size']}-{c['name']}")
def test_consistency_vector(case: dict[str, Any]) -> None:
    """A proof is accepted if and only if the vector says so."""
    have = merkle.verify_consistency(
        case["old_size"],
        bytes.fromhex(case["old_root"]),
        size=case["size"],
        root=bytes.fromhex(case["root"]),
        proof=[bytes.fromhex(each) for each in case["proof"]],
    )

    assert have is case["valid"]


def test_no_flipped_bit_in_an_inclusion_proof_is_accepted(tree: Tree) -> None:
    """Every bit of leaf hash, proof and root matters."""
    for index, size in ((0, 7), (5, 13), (12, 13), (16, 33), (32, 33)):
        hashed = merkle.leaf_hash(tree.leaves[index])
        parts = [hashed, tree.roots[size], *merkle.inclusion_proof(index, size, tree.read)]
        for number in range(len(parts)):
            for bit in range(256):
                leaf, root, *proof = _flipped(parts, number, bit)
                assert not merkle.verify_inclusion(leaf, index, size, proof=proof, root=root)


def test_no_flipped_bit_in_a_consistency_proof_is_accepted(tree: Tree) -> None:
    """Every bit of both roots and the proof matters."""
    for old, size in ((3, 7), (4, 8), (6, 13), (8, 33), (32, 33)):
        parts = [tree.roots[old], tree.roots[size], *merkle.consistency_proof(old, size, tree.read)]
        for number in range(len(parts)):
            for bit in range(256):
                old_root, root, *proof = _flipped(parts, number, bit)
                assert not merkle.verify_consistency(old, old_root, size=size, root=root, proof=proof)


def test_a_fork_has_no_consistency_proof(tree: Tree) -> None:
    """A log that changed one early record can prove no continuation of the tree it had before."""
    forked = Tree([b"other", *tree.leaves[1:]])
    for old in range(1, LARGEST):
        proof = merkle.consistency_proof(old, LARGEST, forked.read)
        assert not merkle.verify_consistency(
            old, tree.roots[old], size=LARGEST, root=forked.roots[LARGEST], proof=proof
        ), old


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 3), (9, 3)])
def test_a_record_outside_the_tree_has_no_proof(tree: Tree, index: int, size: int) -> None:
    """Asking for a proof of what is not there is an error, not an empty proof."""
    with pytest.raises(ValueError, match="is not in a tree"):
        merkle.inclusion_proof(index, size, tree.read)


@pytest.mark.parametrize(("old", "size"), [(4, 3), (-1, 3)])
def test_a_larger_tree_is_no_beginning(tree: Tree, old: int, size: int) -> None:
    """Asking for consistency with a larger tree is an error."""
    with pytest.raises(ValueError, match="no beginning"):
        merkle.consistency_proof(old, size, tree.read)


def test_a_frontier_fits_its_size() -> None:
    """A frontier cannot be resumed with a wrong number of subtrees."""
    with pytest.raises(ValueError, match="complete subtrees"):
        merkle.Frontier(3, [bytes(32)])


def _flipped(parts: list[bytes], number: int, bit: int) -> list[bytes]:
    changed = bytearray(parts[number])
    changed[bit // 8] ^= 1 << (bit % 8)
    return [*parts[:number], bytes(changed), *parts[number + 1 :]]
