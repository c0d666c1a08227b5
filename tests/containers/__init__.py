"""The image and the compose file, run on a Docker engine that the tests start themselves.

Base images are stand-ins made from Debian's packages, under the names that the project uses, so
that no image registry is needed. May import ``streams`` and ``tests.support``.
"""
