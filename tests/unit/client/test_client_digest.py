"""The client's digests against the worked examples of docs/digests.md and against the server's code."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import policyd_client
import pytest
from google.protobuf.json_format import ParseDict
from pbac.v1 import decision_pb2 as pb
from policyd_client import digest

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/digests.json").read_text(encoding="utf-8"))


def to_request(inputs: dict[str, Any]) -> pb.CheckRequest:
    """Return the message that the inputs of a vector describe."""
    tokens = [bytes.fromhex(token) for token in inputs["record_tokens"]]
    message = {**inputs, "action": f"ACTION_{inputs['action'].upper()}"}
    del message["record_tokens"]
    request = ParseDict(message, pb.CheckRequest())
    request.record_tokens.extend(tokens)
    return request


def to_answer(inputs: dict[str, Any]) -> pb.CheckResponse:
    """Return the message that the inputs of a vector describe."""
    verdicts = [{**group, "effect": f"EFFECT_{group['effect'].upper()}"} for group in inputs["verdicts"]]
    message = {**inputs, "outcome": f"OUTCOME_{inputs['outcome'].upper()}", "verdicts": verdicts}
    return ParseDict(message, pb.CheckResponse())


@pytest.mark.parametrize("vector", VECTORS["encodings"], ids=lambda vector: vector["encoding"][:20])
def test_values_are_encoded_as_the_vectors_say(vector: dict[str, Any]) -> None:
    """Text, integers and lists have one encoding."""
    assert digest.encode(vector["value"]).hex() == vector["encoding"]


@pytest.mark.parametrize("vector", VECTORS["requests"], ids=lambda vector: vector["name"].replace(" ", "-"))
def test_questions_have_the_digests_of_the_vectors(vector: dict[str, Any]) -> None:
    """A question as it is sent has the encoding and the digest of the worked example."""
    request = to_request(vector["inputs"])

    assert digest.encode_request(request).hex() == vector["encoding"]
    assert digest.request_digest(request).hex() == vector["digest"]


@pytest.mark.parametrize("vector", VECTORS["answers"], ids=lambda vector: vector["name"].replace(" ", "-"))
def test_answers_have_the_digests_of_the_vectors(vector: dict[str, Any]) -> None:
    """An answer as it is received has the encoding and the digest of the worked example."""
    answer = to_answer(vector["inputs"])

    assert digest.encode_answer(answer).hex() == vector["encoding"]
    assert digest.answer_digest(answer).hex() == vector["digest"]


def test_the_vectors_use_every_step_and_obligation() -> None:
    """Each kind that the protocol has stands in a worked example, so that none goes untested."""
    answers = [to_answer(vector["inputs"]) for vector in VECTORS["answers"]]
    steps = {s.WhichOneof("kind") for a in answers for group in a.verdicts for s in group.transform}
    obligations = {o.WhichOneof("kind") for a in answers for o in a.obligations}

    assert steps == {field.name for field in pb.TransformStep.DESCRIPTOR.fields}
    assert obligations == {field.name for field in pb.Obligation.DESCRIPTOR.fields}


def test_every_covered_part_of_an_answer_changes_its_digest() -> None:
    """Changing any part of an answer but trace and receipt gives another digest."""
    full = to_answer(VECTORS["answers"][2]["inputs"])
    want = digest.answer_digest(full)

    for field in pb.CheckResponse.DESCRIPTOR.fields:
        changed = pb.CheckResponse.FromString(full.SerializeToString())
        match field.name:
            case "trace_id":
                changed.trace_id = "4b" * 16
            case "receipt":
                changed.receipt.index += 1
            case "verdicts" | "obligations":
                del getattr(changed, field.name)[-1]
            case "outcome":
                changed.outcome = pb.OUTCOME_RELEASE
            case _:
                setattr(changed, field.name, getattr(full, field.name) + type(getattr(full, field.name))("1"))
        same = digest.answer_digest(changed) == want
        assert same == (field.name in ("trace_id", "receipt")), field.name


@pytest.mark.parametrize(
    "answer",
    [
        pb.CheckResponse(),
        pb.CheckResponse(outcome=pb.OUTCOME_RELEASE, verdicts=[pb.VerdictGroup()]),
        pb.CheckResponse(outcome=pb.OUTCOME_RELEASE, obligations=[pb.Obligation()]),
        pb.CheckResponse(
            outcome=pb.OUTCOME_RELEASE,
            verdicts=[pb.VerdictGroup(effect=pb.EFFECT_TRANSFORM, transform=[pb.TransformStep()])],
        ),
    ],
    ids=["outcome", "effect", "obligation", "step"],
)
def test_what_is_not_known_has_no_digest(answer: pb.CheckResponse) -> None:
    """An unknown word cannot be hashed as if it were nothing."""
    with pytest.raises(ValueError, match="not known"):
        digest.answer_digest(answer)


@pytest.mark.parametrize("number", [-1, 1 << 64])
def test_integers_out_of_range_have_no_encoding(number: int) -> None:
    """Nothing is cut to eight bytes."""
    with pytest.raises(ValueError, match="has no encoding"):
        digest.encode(number)


def test_the_client_imports_nothing_of_the_server() -> None:
    """policyd_client stands alone: gRPC, protobuf, the protocol, cryptography, the standard library."""
    allowed = {"cryptography", "google", "grpc", "pbac", "policyd_client"}
    package = Path(policyd_client.__file__).parent
    outside = set()
    for module in package.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                outside |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                outside.add((node.module or "").partition(".")[0])

    assert outside - set(sys.stdlib_module_names) <= allowed
    assert (package / "py.typed").exists()
