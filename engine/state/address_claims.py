"""The claims of one proxy address (R18), in the order in which they come to own it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

from engine.state.row_codecs import AddressClaimRow


class SharedAddress:
    """An address that several users claim. A change costs O(log n), whatever their number.

    ``owner``: the claim that owns the address; ``others``: the claims behind it, by since.
    ``unnotified``: how many of the others may not know the owner yet; ``cursor``: the claim
    that was notified last.
    """

    __slots__ = ("cursor", "others", "owner", "unnotified", "users")

    def __init__(self, owner: AddressClaimRow) -> None:
        self.owner = owner
        self.others: list[AddressClaimRow] = []
        self.users: dict[str, AddressClaimRow] = {owner.user: owner}
        self.unnotified = 0
        self.cursor: AddressClaimRow | None = None

    def add(self, claim: AddressClaimRow) -> None:
        """Adds a claim at its place; an owner gives way only if both addresses are given."""
        self.users[claim.user] = claim
        owner = self.owner
        if claim < owner and not (claim.derived or owner.derived):
            self.owner, claim = claim, owner
        insort(self.others, claim)
        if self.unnotified:  # it may have come before one that is still to be notified
            self.unnotified += 1

    def restore(self, claim: AddressClaimRow, owns: bool) -> None:
        """Adds a claim from its row; ``owns``: it is known to own the address."""
        self.users[claim.user] = claim
        if owns:
            self.owner, claim = claim, self.owner
        insort(self.others, claim)

    def replace(self, claim: AddressClaimRow) -> None:
        """Replaces the claim of the same user; an owner stays the owner."""
        known = self.users[claim.user]
        self.users[claim.user] = claim
        if known is self.owner:
            self.owner = claim
        else:
            del self.others[bisect_left(self.others, known)]
            insort(self.others, claim)
            if self.unnotified:
                self.unnotified = len(self.others)

    def remove(self, user: str) -> AddressClaimRow | None:
        """Removes the user's claim and returns it; the next in line owns the address then."""
        known = self.users.pop(user, None)
        if known is None:
            return None
        if known is self.owner:
            self.owner = self.others.pop(0)
        else:
            del self.others[bisect_left(self.others, known)]
        return known

    def remove_last(self) -> AddressClaimRow:
        """Removes the claim that is last in line and returns it."""
        last = self.others.pop()
        del self.users[last.user]
        return last

    def next_unnotified(self, limit: int) -> list[AddressClaimRow]:
        """Returns up to ``limit`` claims to be notified of the owner, in turn."""
        count = min(limit, self.unnotified, len(self.others))
        at = bisect_right(self.others, self.cursor) if self.cursor is not None else 0
        found = self.others[at : at + count]
        found += self.others[: count - len(found)]
        self.unnotified = min(self.unnotified, len(self.others)) - count
        self.cursor = found[-1] if found and self.unnotified else None
        return found
