"""The rules, written a second time: slowly, obviously, from `rules.md` and `contract.md` alone.

This is the judge. It imports the standard library and nothing of the product, and is read, never
optimised. `licensing` evaluates one user, `world` plays whole tenants one event at a time, and
`contract` says which input can be read.
"""
