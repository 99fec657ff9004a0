"""The scripts that Redis runs whole or not at all, and the names of the keys (docs/state.md)."""

from __future__ import annotations

from dataclasses import dataclass

CHANGE, CHAIN = b"change", b"chain"
"""The two fields of a stream entry."""

DONE, MOVED, TORN = b"done", b"moved", b"torn"
"""What a script answers first; the head of the chain as it found it, epoch and hash, follows."""

_HEAD = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local epoch, chain = '0', ARGV[1]
if #last == 1 then
  epoch = string.match(last[1][1], '^(%d+)-0$') or '?'
  for i = 1, #last[1][2], 2 do
    if last[1][2][i] == 'chain' then chain = last[1][2][i + 1] end
  end
end
if tostring(redis.call('XLEN', KEYS[1])) ~= epoch then return {'torn', epoch, chain} end
if epoch ~= ARGV[2] or chain ~= ARGV[3] then return {'moved', epoch, chain} end
"""

# The stream entry comes last: it is what makes a change, and a body alone is nothing.
APPEND = (
    _HEAD
    + """
redis.call('HSET', KEYS[2], ARGV[4], ARGV[7])
redis.call('XADD', KEYS[1], ARGV[4] .. '-0', 'change', ARGV[5], 'chain', ARGV[6])
return {'done', ARGV[4], ARGV[6]}
"""
)
"""Arguments: genesis, expected epoch, expected chain hash; then epoch, head, chain hash and body."""

RENEW = (
    _HEAD
    + """
redis.call('HSET', KEYS[2], ARGV[4], ARGV[5])
return {'done', epoch, chain}
"""
)
"""Arguments: genesis, epoch and chain hash that are acknowledged; then the node and its words."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one fleet; the braces put them into one slot of a cluster."""

    log: str
    bodies: str
    acknowledgements: str

    @classmethod
    def of(cls, domain: str) -> Keys:
        """Return the keys of the fleet of a trust domain."""
        tag = f"{{policyd:{domain}}}"
        return cls(log=f"{tag}:log", bodies=f"{tag}:body", acknowledgements=f"{tag}:ack")
