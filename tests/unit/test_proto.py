"""The protocol: every element explained, names as DESIGN section 5 has them, generated code up to date."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

ROOT = Path(__file__).parents[2] / "proto"
SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "pbac/v1").glob("*.proto"))
RPCS = {
    "DecisionService": {"Check", "BatchCheck", "StreamChecks", "Explain", "ListFields", "ReportRelease"},
    "PolicyService": {"ListVersions", "GetVersion", "Publish", "Approve", "Activate", "Simulate"},
    "RegistryService": {"Apply", "Get", "List", "Suspend"},
    "SealService": {"Seal", "Lift", "WatchSeals", "AcknowledgeSeals"},
    "AuditService": {
        "SearchDecisions",
        "GetDecision",
        "ReplayDecision",
        "GetCheckpoint",
        "GetInclusionProof",
        "GetConsistencyProof",
        "StreamRecords",
    },
}


def run_protoc(root: Path, *arguments: str) -> None:
    """Run protoc on files below `root`; Google's own descriptors come with grpcio-tools."""
    well_known = files("grpc_tools") / "_proto"
    assert protoc.main(["protoc", f"-I{root}", f"-I{well_known}", *arguments]) == 0


def parse(root: Path, sources: list[str], scratch: Path) -> list[FileDescriptorProto]:
    """Return the parsed files, comments included."""
    out = scratch / "set.pb"
    run_protoc(root, "--include_source_info", f"--descriptor_set_out={out}", *sources)
    return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def elements(file: FileDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and the descriptor path of every element that needs a comment."""
    for s, service in enumerate(file.service):
        yield service.name, (6, s)
        for r, rpc in enumerate(service.method):
            yield f"{service.name}.{rpc.name}", (6, s, 2, r)
    for m, message in enumerate(file.message_type):
        yield from message_elements(message, message.name, (4, m))
    for e, enum in enumerate(file.enum_type):
        yield from enum_elements(enum, enum.name, (5, e))


def message_elements(
    message: DescriptorProto, name: str, path: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield a message, its fields, and what is nested in it."""
    yield name, path
    for f, field in enumerate(message.field):
        yield f"{name}.{field.name}", (*path, 2, f)
    for m, nested in enumerate(message.nested_type):
        yield from message_elements(nested, f"{name}.{nested.name}", (*path, 3, m))
    for e, enum in enumerate(message.enum_type):
        yield from enum_elements(enum, f"{name}.{enum.name}", (*path, 4, e))


def enum_elements(
    enum: EnumDescriptorProto, name: str, path: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield an enum and its values."""
    yield name, path
    for v, value in enumerate(enum.value):
        yield f"{name}.{value.name}", (*path, 2, v)


def uncommented(file: FileDescriptorProto) -> list[str]:
    """Return the elements whose leading comment is missing or is no sentence."""
    comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    return [
        f"{file.name}: {name}"
        for name, path in elements(file)
        if not (comments.get(path, "").strip().endswith(".") and len(comments[path].split()) >= 3)
    ]


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    """The protocol's files."""
    return parse(ROOT, SOURCES, tmp_path_factory.mktemp("proto"))


def test_every_element_of_the_protocol_has_a_comment(parsed: list[FileDescriptorProto]) -> None:
    """Every service, RPC, message, field, enum and enum value is explained in a sentence above it."""
    assert [name for file in parsed for name in uncommented(file)] == []
    assert sum(1 for file in parsed for _ in elements(file)) > 500


def test_an_element_without_a_comment_is_found(tmp_path: Path) -> None:
    """The check above sees a bare element of every kind, and a comment that is no sentence."""
    (tmp_path / "bare.proto").write_text(
        """syntax = "proto3";
package bare;
service S { rpc R(M) returns (M); }
message M {
  int32 bare = 1;
  // Its name.
  int32 short = 2;
  // A field with a comment.
  int32 good = 3;
  message N { oneof k { int32 inner = 1; } }
  enum O { O_UNSPECIFIED = 0; }
}
enum E { E_UNSPECIFIED = 0; }
""",
        encoding="utf-8",
    )

    have = uncommented(parse(tmp_path, ["bare.proto"], tmp_path)[0])

    assert [name.removeprefix("bare.proto: ") for name in have] == [
        "S",
        "S.R",
        "M",
        "M.bare",
        "M.short",
        "M.N",
        "M.N.inner",
        "M.O",
        "M.O.O_UNSPECIFIED",
        "E",
        "E.E_UNSPECIFIED",
    ]


def test_services_have_the_rpcs_of_the_design(parsed: list[FileDescriptorProto]) -> None:
    """Every RPC of DESIGN section 5 is there, with AcknowledgeSeals for amendment 2."""
    have = {service.name: {rpc.name for rpc in service.method} for file in parsed for service in file.service}

    assert have == RPCS


def test_each_file_has_one_service_and_each_rpc_messages_of_its_own(
    parsed: list[FileDescriptorProto],
) -> None:
    """`Check` takes a `CheckRequest` and returns a `CheckResponse`, and no other RPC uses them."""
    assert [len(file.service) for file in parsed] == [1] * 5
    for file in parsed:
        for rpc in file.service[0].method:
            assert rpc.input_type == f".pbac.v1.{rpc.name}Request"
            assert rpc.output_type == f".pbac.v1.{rpc.name}Response"


def test_enum_values_carry_the_name_of_their_enum_and_zero_means_nothing(
    parsed: list[FileDescriptorProto],
) -> None:
    """An absent enum is never a permission: number 0 is `<ENUM>_UNSPECIFIED`."""
    for file in parsed:
        for enum in file.enum_type:
            prefix = "".join(f"_{c}" if c.isupper() else c for c in enum.name).upper().lstrip("_")
            assert enum.value[0].name == f"{prefix}_UNSPECIFIED"
            assert enum.value[0].number == 0
            assert all(value.name.startswith(f"{prefix}_") for value in enum.value)


def test_lists_are_paged_with_opaque_tokens(parsed: list[FileDescriptorProto]) -> None:
    """Whatever takes a page token gives the next one, and both are text."""
    messages = {message.name: message for file in parsed for message in file.message_type}
    paged = [name for name, m in messages.items() if any(f.name == "page_token" for f in m.field)]

    assert sorted(paged) == ["ListRequest", "ListVersionsRequest", "SearchDecisionsRequest"]
    for name in paged:
        answer = messages[name.removesuffix("Request") + "Response"]
        token = next(f for f in answer.field if f.name == "next_page_token")
        assert token.type == token.TYPE_STRING


def test_generated_code_is_what_the_protocol_gives(tmp_path: Path) -> None:
    """`make proto` leaves no difference: the committed code is that of the committed protocol."""
    run_protoc(
        ROOT,
        f"--python_out={tmp_path}",
        f"--pyi_out={tmp_path}",
        f"--grpc_python_out={tmp_path}",
        *SOURCES,
    )
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())

    assert len(made) == 3 * len(SOURCES)
    stale = [str(path) for path in made if (tmp_path / path).read_bytes() != (ROOT / path).read_bytes()]
    assert stale == []
