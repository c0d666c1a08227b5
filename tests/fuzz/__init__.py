"""Whole records of any content, at every door: none may end a process or hold up another tenant.

``SEATFLOW_FUZZ_SEED`` chooses the seed, ``SEATFLOW_FUZZ_RECORDS`` the number of hostile records for
each door. Each failure names the seed. May import everything.
"""
