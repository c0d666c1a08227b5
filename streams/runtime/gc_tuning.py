"""The garbage collector beside a state of millions of objects that stay.

Going through them finds nothing and takes time. So in a backlog, where nearly all that is new
stays, new objects are set aside before the collector comes to them; at other times it works as
ever. What is garbage in a circle when it is set aside stays in memory: it came with a thousand
times as much of state, and the hot path makes no circles.
"""

from __future__ import annotations

import gc

THRESHOLD = 200_000  # new objects, after which the collector goes through them
ASIDE = 50_000  # a slice of work makes fewer


def configure() -> None:
    gc.set_threshold(THRESHOLD, 50, 1_000)


def set_aside() -> None:
    """To be called again and again in a backlog, and only then: what is garbage by now stays.

    It costs nothing unless much is new.
    """
    if gc.get_count()[0] > ASIDE:
        gc.freeze()
