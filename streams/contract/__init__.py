"""The contract with the outside: event types, decoder, JSON Schemas, AsyncAPI.

May import the engine's domain and ``streams.runtime``; used by everything that reads or writes
Seatflow's topics. Import from the modules: ``decoder`` (DECODERS), ``event_types``,
``event_reader`` (event_of), ``schemas``.
"""
