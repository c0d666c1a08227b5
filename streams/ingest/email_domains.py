"""Mail addresses below ``.local``, which directories that began with Active Directory have.

pydantic's EmailStr, the type of a SCIM user's mail addresses, refuses the special-use domains of
the library email-validator and has no parameter for them. The list is the library's own, documented
way to change that, but it is process-wide: this module is its only user, and the only processes
that import it are ``seatflow feed scim`` and ``seatflow receive``, which validate nothing else.
"""

from __future__ import annotations

import email_validator


def allow_local_domains() -> None:
    """Lets EmailStr accept addresses below ``.local``, in the whole process. Safe to repeat."""
    if "local" in email_validator.SPECIAL_USE_DOMAIN_NAMES:
        email_validator.SPECIAL_USE_DOMAIN_NAMES.remove("local")
