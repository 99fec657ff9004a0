"""One connection to the fleet's Redis: asks, and says in policyd's words what is wrong with the answer."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import redis
import redis.sentinel
from redis import exceptions
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry

from policyd import clock
from policyd.errors import ConfigError, NotServing, StateAstray, StateUnfit
from policyd.registry.change import GENESIS, Change
from policyd.registry.draft import MAX_BODY_BYTES
from policyd.registry.redis_entry import Head, Reading
from policyd.registry.redis_script import APPEND, CHAIN, DONE, RENEW, TORN, Keys
from policyd.registry.redis_url import RedisUrl, Secret
from policyd.registry.wire import MAX_HEAD_BYTES, head_bytes

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 2.0
APPEND_TIMEOUT_S = 10.0
"""For a body of 16 MiB on a slow line; a lost answer is settled by reading."""
CLOCK_LIMIT_MS = 2_000
"""How far the clocks of a node and of Redis may be apart."""
BATCH = 16
"""Entries a read; bodies of 16 MiB bound what that holds in memory."""

_HEALTH_CHECK_S = 5
_NEEDS_BYTES = MAX_BODY_BYTES + MAX_HEAD_BYTES

_NOT_ALLOWED = (
    "NOPERM",
    "The user executing the script can't run",
    "ACL failure in script",
    "EXEC without MULTI",
)
"""What Redis 6.2 and 7 say of a command that a user's rules do not name, also inside a script."""
_NO_ANSWER = (exceptions.ConnectionError, exceptions.TimeoutError)
_SENTINELS_EVERY_S = 2.0
_SENTINEL_TIMEOUT_S = 1.0

T = TypeVar("T")


class AnswerLost(NotServing):
    """A change was sent and nobody knows whether it arrived."""


class Link:
    """A connection that is made when it is needed, and made anew after a failure. One thread at a time."""

    def __init__(self, url: RedisUrl, *, domain: str) -> None:
        """Prepare to connect; nothing is sent yet.

        Raises:
            ConfigError: a password or TLS file that ``url`` names cannot be read.
        """
        self.keys = Keys.of(domain)
        self._reading = Reading(str(url), self.keys)
        self._url = url
        self._ask_sentinels_at_s = 0.0
        for path in (url.authority, url.certificate, url.key):
            if path is not None and not path.is_file():
                raise ConfigError(f"{path}, named in the URL of the state, is not there")
        for secret in (url.password, url.sentinel_password):
            if secret is not None:
                secret.read()
        self._redis, self._writer = (
            _client(url, answer_s) for answer_s in (ANSWER_TIMEOUT_S, APPEND_TIMEOUT_S)
        )

    def __str__(self) -> str:
        return str(self._url)

    def head(self) -> Head:
        """Return the newest change, after asking whether this Redis may be relied on at all.

        Raises:
            StateUnfit: it evicts, or its clock is too far from ours.
            StateAstray: what is under the keys is not what policyd wrote.
            NotServing: it cannot be reached, is no primary, or refuses.
        """
        self._follow_sentinels()
        before = clock.now()
        newest, count, (seconds, micros), said = self._again(self._ask)
        after = clock.now()
        self._refuse_unfit(said)
        self._refuse_clock(seconds * 1000 + micros // 1000, before=before, after=after)
        head = Head(0, GENESIS)
        if newest:
            head = self._reading.head(newest[0][0], newest[0][1].get(CHAIN, b""))
        if count != head.epoch:
            raise self._reading.torn(head.epoch, count)
        return head

    def changes_after(self, epoch: int) -> list[Change]:
        """Return the next changes after `epoch`, at most `BATCH`, as they are stored.

        Raises:
            StateAstray: an entry has another form than policyd writes, or lacks its body.
            NotServing: as `head`.
        """
        entries = self._again(
            lambda: self._redis.xrange(self.keys.log, min=f"{epoch + 1}-0", max="+", count=BATCH)
        )
        if not entries:
            return []
        numbers = [self._reading.number(entry_id) for entry_id, _ in entries]
        bodies = self._again(lambda: self._redis.hmget(self.keys.bodies, [str(each) for each in numbers]))
        return [
            self._reading.change(number, fields, body)
            for number, (_, fields), body in zip(numbers, entries, bodies, strict=True)
        ]

    def wait(self, epoch: int, *, timeout_s: float) -> None:
        """Return when there is a change after `epoch`, or after ``timeout_s``.

        Raises:
            StateAstray, NotServing: as `head`.
        """
        block_ms = max(1, int(timeout_s * 1000))
        with self._translated():
            self._redis.xread({self.keys.log: f"{epoch}-0"}, count=1, block=block_ms)

    def append(self, change: Change) -> Head | None:
        """Store `change` if it follows the head, whole or not at all, and return None; else return the head.

        It is sent once.

        Raises:
            AnswerLost: it may have been stored, now or later.
            StateAstray, NotServing: as `head`; it was not stored.
        """
        try:
            return self._run(
                self._writer,
                APPEND,
                [self.keys.log, self.keys.bodies],
                Head(change.epoch - 1, change.previous),
                [change.epoch, head_bytes(change), change.chain_hash.hex(), change.draft.body],
            )
        except NotServing as error:
            if type(error.__cause__) in _NO_ANSWER:
                raise AnswerLost(str(error)) from error
            raise

    def renew(self, node: str, words: bytes, *, head: Head) -> Head | None:
        """Keep the words of `node` if ``head`` is the head at that moment, and return None; else the head.

        Raises:
            StateAstray, NotServing: as `head`.
        """
        return self._run(self._redis, RENEW, [self.keys.log, self.keys.acknowledgements], head, [node, words])

    def acknowledgements(self) -> dict[bytes, bytes]:
        """Return the last words of every node, by its id.

        Raises:
            StateAstray, NotServing: as `head`.
        """
        found: dict[bytes, bytes] = self._again(lambda: self._redis.hgetall(self.keys.acknowledgements))
        return found

    def continuity(self) -> str:
        """Return what names this run of this primary: another one was started, or took over, if it differs.

        Raises:
            NotServing: as `head`.
        """
        said = self._again(self._redis.info)
        self._refuse_unfit(said)
        return f"{said.get('run_id', '')}:{said.get('master_replid', '')}"

    def check_settings(self) -> None:
        """Refuse a server that could not take the largest change; asked at start alone.

        Raises:
            StateUnfit: it could not.
            NotServing: as `head`.
        """
        try:
            with self._translated():
                found = self._redis.config_get("proto-max-bulk-len")
        except NotServing as error:
            if isinstance(error.__cause__, exceptions.ResponseError):
                return  # CONFIG is not for everybody, and a change that is too large fails by itself
            raise
        limit = int(found.get("proto-max-bulk-len", _NEEDS_BYTES))
        if limit < _NEEDS_BYTES:
            raise StateUnfit(
                f"{self} takes no value over {limit} bytes: set proto-max-bulk-len to"
                f" {2 * _NEEDS_BYTES} or more"
            )

    def close(self) -> None:
        """Close the connection; the next question would open another."""
        for client in (self._redis, self._writer):
            client.close()
            client.connection_pool.disconnect()

    def _ask(self) -> Any:
        with self._redis.pipeline(transaction=True) as together:
            together.xrevrange(self.keys.log, count=1)
            together.xlen(self.keys.log)
            together.time()
            together.info()
            return together.execute()

    def _run(
        self, client: Any, script: str, keys: Sequence[str], head: Head, arguments: Sequence[Any]
    ) -> Head | None:
        expected = [GENESIS.hex(), head.epoch, head.chain_hash.hex()]
        with self._translated():
            word, epoch, chain = client.eval(script, len(keys), *keys, *expected, *arguments)
        if word == DONE:
            return None
        if word == TORN:
            raise self._reading.torn(epoch.decode("ascii", "replace"), "another number")
        return Head(0, GENESIS) if epoch == b"0" else self._reading.head(epoch + b"-0", chain)

    def _again(self, ask: Callable[[], T]) -> T:
        """Ask what may be asked twice: once more when the connection turns out to be gone."""
        try:
            with self._translated():
                return ask()
        except NotServing as error:
            if type(error.__cause__) is not exceptions.ConnectionError:
                raise
        with self._translated():
            return ask()

    def _follow_sentinels(self) -> None:
        """Ask now and then who is primary: a deposed one that is cut off still believes that it is.

        Sentinels that are away change nothing, for the primary itself still answers.
        """
        if not self._url.service or clock.monotonic() < self._ask_sentinels_at_s:
            return
        self._ask_sentinels_at_s = clock.monotonic() + _SENTINELS_EVERY_S
        for client in (self._redis, self._writer):
            with suppress(exceptions.ConnectionError, exceptions.TimeoutError):
                # This drops the connection if the answer is another one than before.
                client.connection_pool.get_master_address()

    def _refuse_unfit(self, said: Mapping[str, Any]) -> None:
        if said.get("role") != "master":
            self.close()  # with sentinels, the next connection goes to whoever is primary then
            raise NotServing(f"{self} is a replica, not the primary: name the primary, or its sentinels")
        policy = said.get("maxmemory_policy", "unknown")
        if policy != "noeviction":
            raise StateUnfit(
                f"{self} may evict what is stored (maxmemory-policy {policy}): set it to noeviction"
            )

    def _refuse_clock(self, theirs: int, *, before: int, after: int) -> None:
        ahead_ms = max(theirs - after, before - theirs, 0)
        if ahead_ms > CLOCK_LIMIT_MS:
            raise StateUnfit(
                f"the clocks of this node and of {self} are {ahead_ms / 1000:.1f} s apart: set both by NTP"
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn redis-py's errors into policyd's. None of them repeats what was sent."""
        try:
            yield
        except _NoPassword as error:
            raise NotServing(f"{self} cannot be asked now: {error}") from error
        except exceptions.AuthenticationError as error:
            self.close()  # a connection without a login would be kept, and asked again and again
            user = self._url.user or "default"
            raise NotServing(f"{self} refuses user `{user}` or its password: look at the file") from error
        except (exceptions.NoPermissionError, exceptions.AuthorizationError) as error:
            raise NotServing(
                f"{self} does not allow user `{self._url.user or 'default'}` what policyd needs: give it the"
                " rules in docs/state.md"
            ) from error
        except exceptions.BusyLoadingError as error:
            raise NotServing(f"{self} is still loading its data; it answers when it is done") from error
        except exceptions.ReadOnlyError as error:
            raise NotServing(
                f"{self} is a replica, not the primary: name the primary, or its sentinels"
            ) from error
        except exceptions.OutOfMemoryError as error:
            raise NotServing(f"{self} is out of memory and takes no changes: raise maxmemory") from error
        except redis.sentinel.MasterNotFoundError as error:
            # SECURITY: its text shows how the clients of the sentinels were made, so it is not repeated.
            raise NotServing(
                f"{self} cannot be reached: no sentinel that answers names a primary of"
                f" `{self._url.service}`; look at the sentinels, and at the password if they want one"
            ) from error
        except exceptions.TimeoutError as error:
            raise NotServing(f"{self} does not answer in time") from error
        except (exceptions.ConnectionError, OSError, ssl.SSLError) as error:
            raise NotServing(f"{self} cannot be reached: {_said(error)}") from error
        except exceptions.ResponseError as error:
            raise self._from_answer(error) from error
        except exceptions.RedisError as error:
            raise NotServing(f"{self} cannot be used now: {_said(error)}") from error

    def _from_answer(self, error: exceptions.ResponseError) -> NotServing | StateAstray:
        said = _said(error)
        if "WRONGTYPE" in said:
            return StateAstray(
                f"{self} holds another type of value under a key of policyd; {self._reading.repair}"
            )
        if "equal or smaller than the target stream top item" in said:
            return StateAstray(f"{self} has had entries deleted by hand; {self._reading.repair}")
        if any(word in said for word in _NOT_ALLOWED):
            return NotServing(
                f"{self} does not allow what policyd needs: give its user the rules in docs/state.md ({said})"
            )
        if "NOREPLICAS" in said:
            return NotServing(f"{self} has too few replicas in reach to take changes; bring them back")
        if "NOAUTH" in said:
            return NotServing(f"{self} wants a password: name it with ?password_file=PATH")
        return NotServing(f"{self} cannot be used now: {said}")


class _NoPassword(exceptions.AuthenticationError):
    """The password cannot be read; only an error of its own makes redis-py give up the connection."""


class _Credentials(CredentialProvider):
    """Reads the password when a connection is made, so that it can change without a restart."""

    def __init__(self, user: str, secret: Secret) -> None:
        self._user, self._secret = user, secret

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return user and password as redis-py wants them."""
        try:
            password = self._secret.read()
        except ConfigError as error:
            raise _NoPassword(str(error)) from error
        return (self._user, password) if self._user else (password,)


def _client(url: RedisUrl, answer_s: float) -> Any:
    # SECURITY: nothing is ever sent twice by the library; what may be repeated is repeated by `_again`,
    # and an append never is (test_an_append_whose_answer_is_lost_is_made_once).
    common: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": answer_s,
        "socket_keepalive": True,
        "protocol": 2,
        "retry_on_error": [],
        "retry": Retry(NoBackoff(), 0),
    }
    if url.tls:
        common |= {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_min_version": ssl.TLSVersion.TLSv1_2,
            "ssl_ca_certs": url.authority and str(url.authority),
            "ssl_certfile": url.certificate and str(url.certificate),
            "ssl_keyfile": url.key and str(url.key),
        }
    own = dict(common, db=url.database, health_check_interval=_HEALTH_CHECK_S, client_name="policyd")
    if url.password:
        own["credential_provider"] = _Credentials(url.user, url.password)
    if not url.service:
        ((host, port),) = url.hosts
        return redis.Redis(host=host, port=port, **own)
    theirs = common | {
        "socket_connect_timeout": _SENTINEL_TIMEOUT_S,
        "socket_timeout": _SENTINEL_TIMEOUT_S,
    }
    if url.sentinel_password:
        theirs["credential_provider"] = _Credentials(url.sentinel_user, url.sentinel_password)
    sentinels: Any = redis.sentinel.Sentinel  # untyped
    return sentinels(url.hosts, sentinel_kwargs=theirs).master_for(url.service, **own)


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
