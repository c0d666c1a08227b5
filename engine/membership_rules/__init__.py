"""The language of membership rules (R27): Entra's dynamic membership rules for users.

A rule's text is read by :mod:`engine.membership_rules.parser`, which gives a syntax tree or names
the place of a mistake, and compiled by :mod:`engine.membership_rules.compiler` to a function of
attribute values. The grammar is written down in docs/spec/membership-rules.md.
"""
