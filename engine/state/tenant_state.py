"""The state of the users, groups and tenants of one partition."""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Any, Final

from engine.domain.model import DEFAULT_TENANT, Group, Tenant
from engine.membership_rules.attributes import Attributes
from engine.membership_rules.rule_set import RuleSet
from engine.rules.outcome import EMPTY_OUTCOME, Outcome
from engine.state.pending_work import PendingWork, SeatRequest
from engine.state.row_codecs import OptionalFacts, Row
from engine.state.seat_lease import Lease
from engine.state.user_row_codecs import OptionalUserFacts, encode_user

ORDER_KEY_BYTES: Final = 14  # two of them in bytes take 64 of memory; with 16 each it would be 80
COMPACT_THRESHOLD: Final = 16
MAX_TIMESTAMP_MS: Final = (1 << 48) - 1
_pack: Final = Struct(">QQ").pack


PublishedAttributes = tuple[str | None, str | None, tuple[str, ...], str | None]
"""Usage location, mail, proxy addresses and mail nickname as they are published (R19)."""


def order_key(timestamp_ms: int, offset: int) -> bytes:
    """Returns timestamp in milliseconds and offset (rules, section 1) as bytes that sort alike."""
    return _pack(min(max(timestamp_ms, 0), MAX_TIMESTAMP_MS), offset)[2:]


class User:
    """A user as one partition knows it; unknown while only memberships name it (R22).

    ``groups`` and ``member_since``: memberships in the order of R8, and their order keys, joined.
    ``outcome`` is what is published, with the group ids of its slots in ``paths`` and the
    timestamps of its states in ``state_since_ms`` (one number while all are equal). ``revision``:
    of the last publication; negative after a tombstone, until there is a new one. Of the mail
    attributes (R19) ``upn``, ``mail``, ``addresses`` and ``mail_nickname`` are what was given;
    ``published_nickname`` is kept where it no longer follows from them, ``routing`` is the routing
    address once made, and ``derived`` are the claimed addresses that are not given.
    ``attributes``: those that rules read (:mod:`engine.membership_rules.attributes`);
    ``rule_groups``: those of ``groups`` that a rule made, or froze (R27).
    ``optional_facts``: JSON-able facts that few users have, by the names of their members in the
    row; None if there are none.
    """

    __slots__ = (
        "addresses",
        "attributes",
        "derived",
        "groups",
        "id",
        "known",
        "location",
        "mail",
        "mail_nickname",
        "member_since",
        "optional_facts",
        "outcome",
        "paths",
        "pending_work",
        "published_location",
        "published_nickname",
        "revision",
        "routing",
        "rule_groups",
        "seen_fingerprints",
        "state_since_ms",
        "tenant",
        "upn",
    )  # fmt: skip

    def __init__(self, tenant: TenantState, id: str) -> None:
        self.tenant = tenant
        self.id = id
        self.known = False
        self.location: str | None = None
        self.upn: str | None = None
        self.mail: str | None = None
        self.addresses: tuple[str, ...] = ()
        self.mail_nickname: str | None = None
        self.published_nickname: str | None = None
        self.routing: str | None = None
        self.derived: tuple[str, ...] = ()
        self.groups: tuple[str, ...] = ()
        self.member_since = b""
        self.outcome: Outcome = EMPTY_OUTCOME
        self.paths: tuple[str, ...] = ()
        self.state_since_ms: int | tuple[int, ...] = 0
        self.published_location: str | None = None
        self.revision = 0
        self.seen_fingerprints = b""
        self.pending_work: PendingWork | None = None
        self.optional_facts: dict[str, Any] | None = None
        self.attributes: Attributes = ()
        self.rule_groups: tuple[str, ...] = ()

    def set_optional_fact(self, name: str, value: Any) -> None:
        """Sets a member of ``optional_facts``; None takes it away."""
        if value is not None:
            self.optional_facts = {**(self.optional_facts or {}), name: value}
        elif self.optional_facts is not None and name in self.optional_facts:
            facts = {n: v for n, v in self.optional_facts.items() if n != name}
            self.optional_facts = facts or None

    @property
    def is_returning(self) -> bool:
        """True if licences are to be adopted (R25) or given back (R22) by an evaluation."""
        facts = self.optional_facts
        return facts is not None and (
            OptionalUserFacts.ADOPTION in facts or OptionalUserFacts.RESTORATION in facts
        )

    def adopts(self, sku: str) -> bool:
        """Returns True if a licence of the product waits to be adopted (R25)."""
        _, licenses = (self.optional_facts or {}).get(OptionalUserFacts.ADOPTION, (False, ()))
        return any(held[0] == sku for held in licenses)

    def ensure_pending_work(self) -> PendingWork:
        """Returns the pending work, created on first use."""
        if self.pending_work is None:
            self.pending_work = PendingWork()
        return self.pending_work

    @property
    def effective_location(self) -> str | None:
        """The usage location that counts: the user's own, else the tenant's (R7)."""
        return self.location or self.tenant.settings.location

    @property
    def seat_request(self) -> SeatRequest | None:
        """The seat request in flight, if any."""
        return self.pending_work.seat_request if self.pending_work else None

    @property
    def waits(self) -> bool:
        """True while a seat is requested or an address verdict is due: no evaluation now."""
        pending = self.pending_work
        return pending is not None and (
            pending.seat_request is not None or bool(pending.pending_claims)
        )

    @property
    def duplicate(self) -> tuple[str, str] | None:
        """The first address that another user owns, and its owner (R18)."""
        if self.pending_work is None or not self.pending_work.duplicates:
            return None
        return min(self.pending_work.duplicates.items())

    def path(self, slot: int) -> str:
        """Returns the group of a slot, empty for the direct assignment."""
        return self.paths[slot - 1] if slot else ""

    def since_of(self, index: int) -> int:
        """Returns the timestamp in milliseconds since when the state at ``index`` holds."""
        return (
            self.state_since_ms
            if isinstance(self.state_since_ms, int)
            else self.state_since_ms[index]
        )

    def belongs(self, group: str) -> bool:
        """Returns True if the user is a member, or keeps a licence of the group."""
        return group in self.groups or group in self.paths

    def join(self, group: str, since: bytes) -> bool:
        """Adds a membership at its place in R8's order; False if the user is a member already."""
        groups = self.groups
        if group in groups:
            return False
        last = self.member_since[-ORDER_KEY_BYTES:]
        if last < since or (last == since and groups[-1] < group):
            self.groups = (*groups, group)
            self.member_since += since
        else:
            self._set_memberships([*self._memberships(), (since, group)])
        return True

    def leave(self, group: str) -> bool:
        """Removes a membership; returns False if the user is not a member."""
        if group not in self.groups:
            return False
        self._set_memberships([m for m in self._memberships() if m[1] != group])
        return True

    def memberships(self) -> dict[str, bytes]:
        """Returns the order keys of the memberships by group."""
        return {group: since for since, group in self._memberships()}

    def set_memberships(self, since: Mapping[str, bytes]) -> None:
        """Replaces the memberships; ``since``: their order keys by group."""
        self._set_memberships([(moment, group) for group, moment in since.items()])

    def _memberships(self) -> list[tuple[bytes, str]]:
        since = self.member_since
        return [
            (since[i * ORDER_KEY_BYTES : (i + 1) * ORDER_KEY_BYTES], g)
            for i, g in enumerate(self.groups)
        ]

    def _set_memberships(self, memberships: list[tuple[bytes, str]]) -> None:
        memberships.sort()
        self.groups = tuple([group for _, group in memberships])
        self.member_since = b"".join([since for since, _ in memberships])

    # -- changelog
    def _row_facts(self, mail_facts: OptionalFacts) -> OptionalFacts:
        """Returns the optional facts, with the published location if the row does not imply it."""
        published = self.published_location
        facts: OptionalFacts = self.optional_facts
        if mail_facts is not None:
            facts = mail_facts if facts is None else {**facts, **mail_facts}
        if self.revision <= 0 or published == (self.location or self.tenant.base_location):
            return facts
        return {**(facts or {}), OptionalUserFacts.PUBLISHED_LOCATION: published}

    def row(self, mail_facts: OptionalFacts = None) -> Row:
        """Returns the user's row, as :class:`engine.state.user_row_codecs.UserRow` describes it.

        ``mail_facts``: members of its optional facts (:func:`engine.state.user_mail.mail_facts`).
        """
        return encode_user(
            known=self.known,
            usage_location=self.location,
            user_principal_name=self.upn,
            mail=self.mail,
            proxy_addresses=self.addresses,
            groups=self.groups,
            member_since=self.member_since,
            paths=self.paths,
            outcome=self.outcome,
            state_since_ms=self.state_since_ms,
            revision=self.revision,
            seen_fingerprints=self.seen_fingerprints,
            pending=self.pending_work.to_row() if self.pending_work is not None else None,
            optional_facts=self._row_facts(mail_facts),
            attributes=self.attributes,
            rule_groups=self.rule_groups,
        )


class GroupMembership:
    """A group's users here are its members, and those who left and keep one of its licences (R11).

    ``users``: in the order of their arrival; it may still name users who have left, or one twice,
    until it is compacted. ``user_count``: users who are in it; ``members``: the known users among
    the members. ``timestamp_ms``: time of the latest change; ``unreported``: not yet sent to the
    group machine.
    """

    __slots__ = (
        "errors", "group", "licensed", "members", "tenant", "timestamp_ms", "unreported",
        "user_count", "users", "with_errors",
    )  # fmt: skip

    def __init__(self, tenant: str, group: str) -> None:
        self.tenant = tenant
        self.group = group
        self.users: list[User] = []
        self.user_count = 0
        self.members = 0
        self.licensed = 0
        self.with_errors = 0
        self.errors: dict[str, int] = {}
        self.timestamp_ms = 0
        self.unreported = False

    def add(self, user: User) -> None:
        """Adds a user that is not in it."""
        self.users.append(user)
        self.user_count += 1

    def remove(self) -> None:
        """Removes a user that is no longer a member and keeps no licence of the group."""
        self.user_count -= 1
        if len(self.users) > 2 * self.user_count + COMPACT_THRESHOLD:
            self.users = list({user: None for user in self.users if user.belongs(self.group)})

    def add_stats(self, stats: tuple[bool, tuple[str, ...]], sign: int) -> None:
        """Adds or takes away what an outcome says of the group (:attr:`Outcome.group_stats`)."""
        licensed, errors = stats
        self.licensed += sign * licensed
        if errors:
            self.with_errors += sign
            for error in errors:
                self.errors[error] = self.errors.get(error, 0) + sign


NO_PRODUCTS: Final[frozenset[str]] = frozenset()


class TenantState:
    """The state of one tenant on one partition.

    ``products_off``: the products whose lease says that they are off (R15). ``base_location``: the
    default usage location with which users were published whose rows do not say it: the present
    one; during a fan-out of the settings, the one before. ``rules``: the groups' membership rules
    (R27); None if no group ever had one.
    """

    __slots__ = (
        "base_location", "groups", "id", "leases", "memberships", "products_off", "rules",
        "settings", "users",
    )  # fmt: skip

    def __init__(self, tenant: str) -> None:
        self.id = tenant
        self.settings: Tenant = DEFAULT_TENANT
        self.base_location: str | None = None
        self.groups: dict[str, Group] = {}
        self.users: dict[str, User] = {}
        self.memberships: dict[str, GroupMembership] = {}
        self.leases: dict[str, Lease] = {}
        self.products_off = NO_PRODUCTS
        self.rules: RuleSet | None = None

    def ensure_rules(self) -> RuleSet:
        """Returns the membership rules, created on first use."""
        if self.rules is None:
            self.rules = RuleSet()
        return self.rules

    def membership(self, group: str) -> GroupMembership:
        """Returns the members of a group, created on first use."""
        found = self.memberships.get(group)
        if found is None:
            found = self.memberships[group] = GroupMembership(self.id, group)
        return found

    def lease(self, sku: str) -> Lease:
        """Returns the lease of a product, created on first use."""
        found = self.leases.get(sku)
        if found is None:
            found = self.leases[sku] = Lease(self.id, sku)
        return found

    def switch(self, lease: Lease, off: bool) -> None:
        """R15: takes over that the product of the lease is off, or on again."""
        lease.off = off
        others = self.products_off - {lease.sku}
        self.products_off = others | {lease.sku} if off else others
