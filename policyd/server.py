"""Compose one node: policy, state, ledger, identity and gRPC, started in order and stopped in reverse."""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pbac.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    decision_pb2,
    decision_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
    seal_pb2,
    seal_pb2_grpc,
)

from policyd import clock
from policyd.config import Config
from policyd.errors import ConfigError, NotServing
from policyd.identity.keys import SigningKey, load_mac_key, load_signing_key, load_wrapping_key
from policyd.identity.token import TokenVerifier
from policyd.interceptors.authentication import AuthenticationInterceptor
from policyd.interceptors.authorisation import AuthorisationInterceptor
from policyd.interceptors.deadline import DeadlineInterceptor
from policyd.interceptors.decoding import DecodingInterceptor
from policyd.interceptors.errors import ErrorInterceptor
from policyd.interceptors.limits import LimitsInterceptor
from policyd.interceptors.tracing import TracingInterceptor
from policyd.ledger.cosign import BackgroundCosigner, Cosigner
from policyd.ledger.note import Verifier, WitnessVerifier
from policyd.ledger.vault import Vault
from policyd.ledger.writer import Ledger
from policyd.policy.policyset import PolicySet
from policyd.policy.progress import Progress, silent
from policyd.registry.store import StateStore
from policyd.service.audit_service import AuditServicer
from policyd.service.changing import Changer
from policyd.service.decision_service import DecisionServicer
from policyd.service.in_force import InForce
from policyd.service.lease import Lease, LeaseKeeper
from policyd.service.listening import Listening
from policyd.service.node import Node
from policyd.service.recording import Recorder
from policyd.service.registry_service import RegistryServicer
from policyd.service.releases import Releases
from policyd.service.roles import Roles
from policyd.service.seal_service import SealServicer
from policyd.state import (
    StateFollower,
    current_of,
    find_policy,
    load_state,
    open_store,
    own_key,
    record_state,
)
from policyd.telemetry.delivery import make_senders
from policyd.telemetry.projector import Projector
from policyd.telemetry.settings import make_resource, read_settings

_LOG = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 1024 * 1024
MAX_APPLY_BYTES = 17 * 1024 * 1024
"""For the one method that takes whole registries: a change of 16 MiB, and who signed it."""
_LARGE = ("/pbac.v1.RegistryService/Apply",)
MAX_METADATA_BYTES = 8 * 1024
HEALTH_S = 0.25
UNRECORDED_EVERY_S = 10.0
"""How often at most the log says that decisions could not be recorded."""
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SPARE_THREADS = 8
"""For health and reflection, so that a full house of calls cannot make the node look dead."""

SERVICES = (
    decision_pb2.DESCRIPTOR.services_by_name["DecisionService"].full_name,
    policy_pb2.DESCRIPTOR.services_by_name["PolicyService"].full_name,
    registry_pb2.DESCRIPTOR.services_by_name["RegistryService"].full_name,
    seal_pb2.DESCRIPTOR.services_by_name["SealService"].full_name,
    audit_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name,
)

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_APPLY_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", 256),
    # A second server on a taken port must fail, not share it.
    ("grpc.so_reuseport", 0),
    ("grpc.server_handshake_timeout_ms", 10 * 1000),
    ("grpc.http2.max_ping_strikes", 2),
)


class Server:
    """One node. ``start`` returns when it serves; ``stop`` drains. Not for reuse after ``stop``."""

    def __init__(self, config: Config, *, progress: Progress = silent) -> None:
        self.config = config
        self._progress = progress
        self.address = config.address
        self.notices: list[str] = []
        self._stack = ExitStack()
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._health = health.HealthServicer(experimental_non_blocking=True)

    def start(self) -> None:
        """Load everything, open the ledger and serve.

        Raises:
            SourceError: the policy set has mistakes.
            ConfigError: a key, a certificate or the address cannot be used.
            StateCorrupt, StateConflict, NotServing: the state store cannot be used.
            LedgerClosed, LedgerCorrupt: the ledger cannot be opened; nothing could be recorded.
            LedgerForked: the witness has cosigned a longer ledger than this one, or another.
        """
        with ExitStack() as stack:
            self._compose(stack)
            self._stack = stack.pop_all()

    def reload_keys(self) -> None:
        """Read the issuers' keys again, those behind URLs soon, and verify every token anew.

        Raises:
            ConfigError: a JWKS file cannot be used; the keys in use stay.
        """
        self._verifier.reload()

    def stop(self, *, grace_s: float = 5.0) -> None:
        """Refuse new calls, let those in progress finish within ``grace_s``, and close everything.

        Raises:
            LedgerClosed: the ledger has failed; everything else is closed all the same.
        """
        if self._stopping.is_set():
            self._stopped.wait()
            return
        self._stopping.set()
        self._health.enter_graceful_shutdown()
        self.node.drain()
        try:
            self.grpc.stop(grace_s).wait()
            self._stack.close()
        finally:
            self._stopped.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the server has stopped, or for ``timeout_s``; return whether it has."""
        return self._stopped.wait(timeout_s)

    def _compose(self, stack: ExitStack) -> None:
        config = self.config
        self._listening = Listening(
            config.tls.certificate,
            key=config.tls.key,
            authority=config.tls.authority,
            deny_list=config.deny,
            trust_domain=config.trust_domain,
            connection_age_s=config.connection_age_s,
        )
        self.notices.append(self._listening.notice)
        self._verifier = TokenVerifier(config.issuers, audience=config.audience, visas=config.visas)
        pseudonyms = load_mac_key(config.keys / "pseudonym.key")
        master = load_wrapping_key(config.keys / "detail.key")
        ledger_key = load_signing_key(config.keys / "ledger.key")
        config.ledger.mkdir(mode=0o700, parents=True, exist_ok=True)
        cosigner = self._cosigner(ledger_key)
        self.ledger = stack.enter_context(
            Ledger.open(
                config.ledger,
                origin=config.origin,
                signing_key=ledger_key.private,
                reserve_bytes=config.disk_reserve_mib << 20,
                cosigner=cosigner,
            )
        )
        if cosigner is not None and not cosigner.required:
            background = BackgroundCosigner(self.ledger, cosigner)
            background.start()
            stack.callback(background.stop)
        vault = stack.enter_context(Vault.open(self.ledger, master=master, pseudonym_key=pseudonyms.secret))
        store = stack.enter_context(open_store(config, progress=self._progress))
        self._store = store
        state = load_state(store, self.ledger)
        self.policy: PolicySet = find_policy(
            state.activation,
            directory=config.policy,
            archive=config.policies,
            progress=self._progress,
        )
        record_state(store, self.ledger, state)
        current = current_of(self.policy, state, progress=self._progress)
        lease = Lease()
        self.node = Node(
            current,
            recorder=Recorder(self.ledger, vault),
            verifier=self._verifier,
            lease=lease,
        )
        words = stack.enter_context(open_store(config))
        keeper = self._keeper(words, lease)
        in_force = InForce(
            words,
            config.trust,
            applied=lambda: self.node.applied.state,
            confirm=keeper.renew,
            continuity=keeper.continuity,
            one_store=config.redis is None or not config.redis.service,
        )
        self._changer = Changer(self.node, store, self.ledger, in_force)
        follower = StateFollower(
            self.node,
            store,
            state=state,
            current=current,
            policy=self.policy,
            directory=config.policy,
            archive=config.policies,
            ledger=self.ledger,
            applied=keeper.wake,
        )
        stack.callback(self._verifier.close)
        self.notices.extend(self._verifier.start())
        self._roles = Roles(config.trust)
        self._project_spans(stack)
        self._listen(stack)
        follower.start()
        stack.callback(follower.stop)
        keeper.start()
        stack.callback(keeper.stop)
        watcher = threading.Thread(target=self._watch_health, name="health", daemon=True)
        watcher.start()

    def _keeper(self, words: StateStore, lease: Lease) -> LeaseKeeper:
        """Return what renews the lease, which it has tried once.

        ``words`` is a connection of its own: an append may take seconds, and must not hold up the lease.
        """
        keeper = LeaseKeeper(
            lease,
            words,
            name=self.config.node,
            signer=own_key(self.config),
            head=self._head,
        )
        with suppress(NotServing):  # it starts all the same, and says that it has no lease
            keeper.renew()
        return keeper

    def _head(self) -> tuple[int, bytes]:
        state = self.node.applied.state
        return state.epoch, state.chain_hash

    def _cosigner(self, ledger_key: SigningKey) -> Cosigner | None:
        """Return who has the ledger's checkpoints cosigned, and say at start what that is good for."""
        witness = self.config.witness
        if witness is None:
            self.notices.append(
                "no witness: nothing protects this ledger against whoever holds its key (docs/witness.md)"
            )
            return None
        verifier = WitnessVerifier.from_vkey(witness.vkey)
        waits = "no answer leaves without it" if witness.required else "no answer waits for it"
        self.notices.append(f"witness {verifier.name} at {witness.url}: {waits}")
        log = Verifier(self.config.origin, ledger_key.private.public_key())
        return Cosigner(witness.url, witness=verifier, log=log, required=witness.required)

    def _project_spans(self, stack: ExitStack) -> None:
        """Send spans where the standard settings say; none of them can touch the ledger."""
        settings = read_settings(os.environ)
        self.notices.extend(settings.lines)
        senders, faults = make_senders(settings)
        self.notices.extend(faults)
        if senders:
            projector = Projector(self.ledger, senders=senders, resource=make_resource(self.ledger.origin))
            projector.start()
            stack.callback(projector.close)

    def _listen(self, stack: ExitStack) -> None:
        config = self.config
        threads = config.calls + config.watches + _SPARE_THREADS
        pool = ThreadPoolExecutor(threads, thread_name_prefix="call")
        stack.callback(pool.shutdown)
        self.grpc = grpc.server(
            pool,
            # The order of DESIGN.md section 2, outermost first.
            interceptors=[
                ErrorInterceptor(),
                TracingInterceptor(),
                DeadlineInterceptor(),
                LimitsInterceptor(calls=config.calls, watches=config.watches),
                AuthenticationInterceptor(
                    trust_domain=config.trust_domain, deny_list=self._listening.deny_list
                ),
                AuthorisationInterceptor(self._roles.permit),
                DecodingInterceptor(most_bytes=MAX_MESSAGE_BYTES, larger=_LARGE),
            ],
            options=(*_OPTIONS, *self._listening.options),
            maximum_concurrent_rpcs=threads,
        )
        decision: Any = decision_pb2_grpc
        seal: Any = seal_pb2_grpc
        audit: Any = audit_pb2_grpc
        decision.add_DecisionServiceServicer_to_server(
            DecisionServicer(self.node, Releases(self.ledger)), self.grpc
        )
        seal.add_SealServiceServicer_to_server(SealServicer(self.node, self._changer, self._roles), self.grpc)
        audit.add_AuditServiceServicer_to_server(AuditServicer(self.node, self.ledger), self.grpc)
        registry: Any = registry_pb2_grpc
        registry.add_RegistryServiceServicer_to_server(
            RegistryServicer(self.node, self._store, self._changer, self._roles), self.grpc
        )
        _register_unbuilt(self.grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self.grpc)
        try:
            port = self.grpc.add_secure_port(config.address, self._listening.credentials())
        except RuntimeError:
            port = 0
        if not port:
            raise ConfigError(f"cannot listen on {config.address}: it is in use")
        self.address = f"{config.address.rsplit(':', 1)[0]}:{port}"
        self._set_health()
        self.grpc.start()

    def _watch_health(self) -> None:
        """Serving means: can record, state fresh, policy in force (DESIGN.md section 5)."""
        said, said_at_s = 0, -UNRECORDED_EVERY_S
        while not self._stopping.wait(HEALTH_S):
            self._set_health()
            count = self.node.unrecorded
            if count > said and clock.monotonic() - said_at_s >= UNRECORDED_EVERY_S:
                _LOG.error("decisions not recorded, and so not answered: %d since the start", count)
                said, said_at_s = count, clock.monotonic()

    def _set_health(self) -> None:
        if self._stopping.is_set():
            return
        # Files that are not those in force do not stop decisions, so they have names of their own
        # (docs/identity.md).
        serving = not self.node.refusing and not self._listening.expired
        well = dict.fromkeys(("", *SERVICES), serving) | dict(self._listening.look())
        for name, good in well.items():
            self._health.set(name, _SERVING if good else _NOT_SERVING)


def _register_unbuilt(server: grpc.Server) -> None:
    """Register services that are not built yet, so that reflection lists them: they answer UNIMPLEMENTED."""
    policy: Any = policy_pb2_grpc  # the generated code has no types
    policy.add_PolicyServiceServicer_to_server(policy.PolicyServiceServicer(), server)
