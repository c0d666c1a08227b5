"""Everything with I/O. The hot path is compiled where that is built (``streams/compiled.py``)."""

from streams import compiled

COMPILED = compiled.use()
