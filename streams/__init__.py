"""Everything with I/O. The hot path is compiled where that is built (streams/runtime/compiled)."""

from streams.runtime import compiled

COMPILED = compiled.use()
