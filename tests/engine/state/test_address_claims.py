"""Everybody who shares an address learns of a new owner, whatever comes in between."""

from __future__ import annotations

from random import Random

from engine.state.address_claims import SharedAddress
from engine.state.row_codecs import AddressClaimRow


def _claim(user: int, since: int) -> AddressClaimRow:
    return AddressClaimRow(since, 0, f"u{user}", 0, False)


def test_a_claim_that_comes_before_unnotified_ones_hides_none_of_them() -> None:
    shared = SharedAddress(_claim(1, 10))
    shared.add(_claim(5, 50))
    shared.unnotified = 1
    shared.add(_claim(4, 40))
    notified: set[str] = set()
    while shared.unnotified:
        notified.update(claim.user for claim in shared.next_unnotified(1))
    assert "u5" in notified


def test_all_are_told_while_claims_come_go_and_change() -> None:
    for seed in range(300):
        random = Random(seed)
        shared = SharedAddress(_claim(0, 0))
        for user in range(1, 9):
            shared.add(_claim(user, random.randrange(1, 90)))
        shared.unnotified = len(shared.others)
        waiting = {claim.user for claim in shared.others}
        for user in range(10, 200):
            if not shared.unnotified:
                break
            waiting -= {claim.user for claim in shared.next_unnotified(random.randint(1, 3))}
            others = [claim.user for claim in shared.others]
            act = random.randrange(5)
            if act == 0 and user < 40:
                shared.add(_claim(user, random.randrange(1, 90)))
            elif act == 1 and len(others) > 2:
                gone = random.choice(others)
                shared.remove(gone)
                waiting.discard(gone)
            elif act == 2 and user < 40:
                known = shared.users[random.choice(others)]
                shared.replace(known._replace(derived=True))
        assert not waiting, f"seed {seed}"
        assert not shared.unnotified
