"""The fault laboratory: whole systems on real brokers, under load and under faults.

Each experiment has brokers and workers of its own, on loopback only. It loads random tenants with
too few seats, does its harm, heals, lets everything settle, records all topics and lets
`tests/checkers` judge them. `python -m tests.lab` runs them; `docs/faults.md` tells how to read it.
"""
