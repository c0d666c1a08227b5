"""The licensing rules R1–R17 and R20 for one user or group, as pure functions.

``evaluation.evaluate`` and ``direct_change.change_direct`` are the entrances. Imports
``engine.domain`` only.
"""
