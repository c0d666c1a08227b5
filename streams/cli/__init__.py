"""The command line, on top of everything: one module for each group of commands.

``main`` composes them. Modules here import what a command needs when it runs, not before.
"""
