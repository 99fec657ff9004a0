"""A witness: cosigns checkpoints of logs that only ever grow (C2SP tlog-witness); shares nothing with a node."""
