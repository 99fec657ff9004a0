"""A witness: cosigns checkpoints of logs that only grow (C2SP tlog-witness); a process of its own."""
