"""The demo: a sample tenant and its scenario, the processes that run it, and the report.

On top of everything but ``cli``.
"""
