"""The ground of every process: settings, errors and exit codes, log events, compiled modules.

May import nothing else of ``streams``, and stays light: every command imports it.
"""
