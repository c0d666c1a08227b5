"""Attacks on every door of a running system, beside the steady traffic of another tenant.

``attacks`` has those that once succeeded, by name; ``grammar`` generates others from a seed. The
`target` runs them; ``neighbour`` is the other tenant, in a process of its own; `verdict` judges.
"""
