"""The state that machines keep in memory, and the codecs of its rows and internal messages.

Attribute names are independent of what is persisted: the codecs map them.
May import ``engine.rules`` and the layers below.
"""
