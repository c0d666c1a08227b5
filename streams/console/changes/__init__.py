"""Changes that an administrator makes with the forms of the pages: from a form to commands.

Imports ``commands`` and ``read_model``; knows nothing of HTTP. Nothing is sent here.
"""
