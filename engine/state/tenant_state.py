"""One user's facts."""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from engine.domain.model import DEFAULT_TENANT, Group, Tenant
from engine.rules.outcome import EMPTY_OUTCOME, Outcome
from engine.state.row_codecs import Row
from engine.state.seat_lease import Lease
from engine.state.user_row_codecs import PendingWorkRow, SeatRequestRow, encode_user

ORDER_KEY_BYTES: Final = 14  # two of them in bytes take 64 of memory; with 16 each it would be 80
SLACK: Final = 16
LAST: Final = (1 << 48) - 1
_pack: Final = Struct(">QQ").pack


Attributes = tuple[str | None, str | None, tuple[str, ...]]
"""Usage location, mail and proxy addresses as they are published (R19)."""


def order_key(at: int, offset: int) -> bytes:
    """Returns timestamp in milliseconds and offset (rules, section 1) as bytes that sort alike."""
    return _pack(min(max(at, 0), LAST), offset)[2:]


class SeatRequest:
    """A user in flight: seats are being asked for in skuId order (architecture, section 4).

    ``got``: products reserved so far; ``denied``: products that cannot be had; ``asking``: the one
    that is waited for, in the request number ``asked``. ``since`` is the place in R8's order.
    """

    __slots__ = ("asked", "asking", "at", "cause", "denied", "got", "since")

    def __init__(self, since: int, at: int, cause: str) -> None:
        self.since = since
        self.at = at
        self.cause = cause
        self.got: set[str] = set()
        self.denied: frozenset[str] = frozenset()
        self.asking = ""
        self.asked = 0

    def to_row(self) -> SeatRequestRow:
        """Returns what is persisted of the attempt."""
        return SeatRequestRow(
            since_ms=self.since,
            timestamp_ms=self.at,
            caused_by=self.cause,
            reserved=sorted(self.got),
            denied=sorted(self.denied),
            requested_sku=self.asking,
            request_seq=self.asked,
        )

    @classmethod
    def of_row(cls, row: SeatRequestRow) -> SeatRequest:
        """Returns the attempt that the row persists."""
        attempt = cls(row.since_ms, row.timestamp_ms, row.caused_by)
        attempt.got = set(row.reserved)
        attempt.denied = frozenset(row.denied)
        attempt.asking = row.requested_sku
        attempt.asked = row.request_seq
        return attempt


class PendingWork:
    """Fields that few users need at a time, kept apart to save memory.

    ``change``: the direct change under way, as [event id, add, remove, at]; ``deferred``: direct
    changes that wait for a product (R21), likewise; ``queue``: events that wait for the attempt
    under way (R23), as [kind, members of the event, at, offset, source]; ``pending``: address ->
    number of the claim that is not answered yet; ``duplicates``: address -> its earlier owner
    (R18); ``shown``: published attributes before they changed; ``due``: (at, cause, retry)
    of an evaluation that waits for a verdict.
    """

    __slots__ = (
        "attempt", "change", "claims", "deferred", "due", "duplicates", "pending", "queue", "shown",
    )  # fmt: skip

    def __init__(self) -> None:
        self.attempt: SeatRequest | None = None
        self.change: list[Any] | None = None
        self.deferred: list[list[Any]] = []
        self.queue: list[list[Any]] = []
        self.claims = 0
        self.pending: dict[str, int] = {}
        self.duplicates: dict[str, str] = {}
        self.shown: tuple[Any, ...] | None = None
        self.due: tuple[int, str, bool] | None = None

    def empty(self) -> bool:
        """Returns True if nothing is pending."""
        return not (
            self.attempt or self.change or self.deferred or self.queue or self.pending
            or self.duplicates or self.shown or self.due
        )  # fmt: skip

    def to_row(self) -> PendingWorkRow:
        """Returns the persisted form."""
        return PendingWorkRow(
            seat_request=self.attempt.to_row() if self.attempt else None,
            change=self.change,
            deferred_changes=self.deferred,
            deferred_events=self.queue,
            last_claim=self.claims,
            pending_claims=self.pending,
            duplicates=self.duplicates,
            published_attributes=self.shown,
            evaluation=self.due,
        )

    @classmethod
    def of_row(cls, row: PendingWorkRow) -> PendingWork:
        """Returns the pending work that the row persists."""
        more = cls()
        more.attempt = SeatRequest.of_row(row.seat_request) if row.seat_request else None
        more.change = row.change
        more.deferred = row.deferred_changes
        more.queue = row.deferred_events
        more.claims = row.last_claim
        more.pending = row.pending_claims
        more.duplicates = row.duplicates
        more.shown = row.published_attributes
        more.due = row.evaluation
        return more


class User:
    """A user as one partition knows it; unknown while only memberships name it (R22).

    ``groups`` and ``since``: memberships in the order of R8, and their moments one after the other.
    ``outcome`` is what is published, with the group ids of its slots in ``paths`` and the
    since-when of its states in ``sinces`` (one number while all are equal). ``given``: the
    principal name of which the processor made the primary address (R19). ``revision``: of the last
    publication; negative after a tombstone, until there is a new one. ``optional_facts``: JSON-able
    facts that few users have, by the names of their members in the row; None if there are none.
    """

    __slots__ = (
        "addresses",
        "given",
        "groups",
        "id",
        "known",
        "location",
        "mail",
        "more",
        "optional_facts",
        "outcome",
        "paths",
        "revision",
        "seen_fingerprints",
        "since",
        "sinces",
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
        self.given: str | None = None
        self.groups: tuple[str, ...] = ()
        self.since = b""
        self.outcome: Outcome = EMPTY_OUTCOME
        self.paths: tuple[str, ...] = ()
        self.sinces: int | tuple[int, ...] = 0
        self.revision = 0
        self.seen_fingerprints = b""
        self.more: PendingWork | None = None
        self.optional_facts: dict[str, Any] | None = None

    def set_optional_fact(self, name: str, value: Any) -> None:
        """Sets a member of ``optional_facts``; None takes it away."""
        facts = {**(self.optional_facts or {}), name: value}
        if value is None:
            del facts[name]
        self.optional_facts = facts or None

    def extra(self) -> PendingWork:
        """Returns the pending work, created on first use."""
        if self.more is None:
            self.more = PendingWork()
        return self.more

    @property
    def attempt(self) -> SeatRequest | None:
        """The seat request in flight, if any."""
        return self.more.attempt if self.more else None

    @property
    def waits(self) -> bool:
        """True while a seat is requested or an address verdict is due: no evaluation now."""
        more = self.more
        return more is not None and (more.attempt is not None or bool(more.pending))

    @property
    def duplicate(self) -> tuple[str, str] | None:
        """The first address that another user owns, and its owner (R18)."""
        if self.more is None or not self.more.duplicates:
            return None
        return min(self.more.duplicates.items())

    def path(self, slot: int) -> str:
        """Returns the group of a slot, empty for the direct assignment."""
        return self.paths[slot - 1] if slot else ""

    def since_of(self, index: int) -> int:
        """Returns the timestamp in milliseconds since when the state at ``index`` holds."""
        return self.sinces if isinstance(self.sinces, int) else self.sinces[index]

    def belongs(self, group: str) -> bool:
        """Returns True if the user is a member, or keeps a licence of the group."""
        return group in self.groups or group in self.paths

    def join(self, group: str, since: bytes) -> bool:
        """Adds a membership at its place in R8's order; False if the user is a member already."""
        groups = self.groups
        if group in groups:
            return False
        last = self.since[-ORDER_KEY_BYTES:]
        if last < since or (last == since and groups[-1] < group):
            self.groups = (*groups, group)
            self.since += since
        else:
            self._order([*self._places(), (since, group)])
        return True

    def leave(self, group: str) -> bool:
        """Removes a membership; returns False if the user is not a member."""
        if group not in self.groups:
            return False
        self._order([place for place in self._places() if place[1] != group])
        return True

    def _places(self) -> list[tuple[bytes, str]]:
        since = self.since
        return [
            (since[i * ORDER_KEY_BYTES : (i + 1) * ORDER_KEY_BYTES], g)
            for i, g in enumerate(self.groups)
        ]

    def _order(self, places: list[tuple[bytes, str]]) -> None:
        places.sort()
        self.groups = tuple([group for _, group in places])
        self.since = b"".join([since for since, _ in places])

    def attributes(self) -> Attributes:
        """R19: usage location, mail and proxy addresses as they are published."""
        addresses = self.addresses
        given = primary = None if self.given is None else f"SMTP:{self.given}"
        for address in addresses:
            if address.startswith("SMTP:"):
                primary = address
                break
        if primary is not None and primary == given and primary not in addresses:
            addresses = (primary, *addresses)
        mail = self.mail
        if primary is not None and (self.outcome.mail or (mail is None and given is not None)):
            mail = primary[5:]
        return self.location, mail, addresses

    def keep_published(self, attributes: Attributes) -> None:
        """Keeps the published attributes before they change, to tell later whether they did."""
        if self.revision > 0 and (self.more is None or self.more.shown is None):
            self.extra().shown = attributes

    def give_address(self) -> None:
        """R19: a mail-enabled user always has a primary address."""
        if not self.upn or self.given is not None:
            return
        for address in self.addresses:
            if address.startswith("SMTP:"):
                return
        self.given = self.upn

    # -- changelog
    def row(self) -> Row:
        """Returns the user's row, as :class:`engine.state.user_row_codecs.UserRow` describes it."""
        return encode_user(
            known=self.known,
            usage_location=self.location,
            user_principal_name=self.upn,
            mail=self.mail,
            proxy_addresses=self.addresses,
            assigned_primary_address=self.given,
            groups=self.groups,
            member_since=self.since,
            paths=self.paths,
            outcome=self.outcome,
            state_since_ms=self.sinces,
            revision=self.revision,
            seen_fingerprints=self.seen_fingerprints,
            pending=self.more.to_row() if self.more is not None else None,
            optional_facts=self.optional_facts,
        )


class GroupMembership:
    """A group's users here are its members, and those who left and keep one of its licences (R11).

    ``users`` is in the order of their coming. It may name some who are no more in it, or one twice;
    ``present`` counts those who are. ``members``: the known users among the members. ``at``: time
    of the latest change; ``unreported``: not yet sent to the group machine.
    """

    __slots__ = (
        "at", "errors", "group", "licensed", "members", "present", "tenant", "unreported", "users",
        "with_errors",
    )  # fmt: skip

    def __init__(self, tenant: str, group: str) -> None:
        self.tenant = tenant
        self.group = group
        self.users: list[User] = []
        self.present = 0
        self.members = 0
        self.licensed = 0
        self.with_errors = 0
        self.errors: dict[str, int] = {}
        self.at = 0
        self.unreported = False

    def enter(self, user: User) -> None:
        """Of a user who was not in it."""
        self.users.append(user)
        self.present += 1

    def leave(self) -> None:
        """Of a user who is neither a member now nor keeps a licence."""
        self.present -= 1
        if len(self.users) > 2 * self.present + SLACK:
            self.users = list({user: None for user in self.users if user.belongs(self.group)})

    def count(self, figures: tuple[bool, tuple[str, ...]], sign: int) -> None:
        """Adds or takes away what an outcome says of the group (:attr:`Outcome.group_stats`)."""
        licensed, errors = figures
        self.licensed += sign * licensed
        if errors:
            self.with_errors += sign
            for error in errors:
                self.errors[error] = self.errors.get(error, 0) + sign


class TenantState:
    """The state of one tenant on one partition."""

    __slots__ = ("groups", "id", "leases", "memberships", "settings", "users")

    def __init__(self, tenant: str) -> None:
        self.id = tenant
        self.settings: Tenant = DEFAULT_TENANT
        self.groups: dict[str, Group] = {}
        self.users: dict[str, User] = {}
        self.memberships: dict[str, GroupMembership] = {}
        self.leases: dict[str, Lease] = {}

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
