"""Questions to the engine on a reconstructed state: why a user has a licence, and what if.

What if brings the state, and asks ``streams.whatif``. Imports also ``read_model`` and the engine;
nothing is written or sent.
"""
