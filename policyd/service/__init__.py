"""The gRPC services: one servicer a file; protobuf in and out, and nothing decided here."""
