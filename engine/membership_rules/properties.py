"""The properties of users that rules may name: those of Entra's rules.

The key of a property is its name in small letters; where Graph and rules name it differently, that
of rules. Sources spell names differently, and a rule that silently matches nobody takes licences
away.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final


class PropertyType(Enum):
    """The values that a property has. ``ANY`` is that of extension attributes."""

    TEXT = "text"
    FLAG = "true or false"
    MOMENT = "a time"
    TEXTS = "a list of text"
    ANY = "any"


TEXT_PROPERTIES: Final = (
    "ageGroup", "city", "companyName", "country", "creationType", "department", "displayName",
    "employeeId", "employeeType", "externalUserState", "facsimileTelephoneNumber",
    "givenName", "jobTitle", "mail", "mailNickName", "mobile", "objectId",
    "onPremisesDistinguishedName", "onPremisesDomainName",
    "onPremisesImmutableId", "onPremisesSamAccountName", "onPremisesSecurityIdentifier",
    "onPremisesUserPrincipalName", "passwordPolicies", "physicalDeliveryOfficeName", "postalCode",
    "preferredDataLocation", "preferredLanguage", "sipProxyAddress", "state", "streetAddress",
    "surname", "telephoneNumber", "usageLocation", "userPrincipalName", "userType",
)  # fmt: skip
EXTENSION_ATTRIBUTES: Final = tuple([f"extensionAttribute{n}" for n in range(1, 16)])
PROPERTIES: Final[dict[str, PropertyType]] = {
    **{name.lower(): PropertyType.TEXT for name in TEXT_PROPERTIES},
    "accountenabled": PropertyType.FLAG,
    "dirsyncenabled": PropertyType.FLAG,
    "employeehiredate": PropertyType.MOMENT,
    "othermails": PropertyType.TEXTS,
    "proxyaddresses": PropertyType.TEXTS,
}
SAME_PROPERTY: Final = {
    "faxnumber": "facsimiletelephonenumber",
    "mobilephone": "mobile",
    "officelocation": "physicaldeliveryofficename",
    "onpremisessyncenabled": "dirsyncenabled",
}
"""Graph's key of a property -> the key under which Entra's rules name it. Both name one property:
the attributes of a directory come by the first, and its rules by the second."""
UNSUPPORTED: Final = {
    "assignedplans": "licences follow from rules, so no rule may depend on licences",
    "memberof": "no rule may depend on the members of a group",
    "manager": "managers of users are not known",
    "directreports": "managers of users are not known",
}
"""Properties of Entra's rules that cannot be used here, with the reason."""
OBJECT_ID: Final = "objectid"
USER_PRINCIPAL_NAME: Final = "userprincipalname"
USAGE_LOCATION: Final = "usagelocation"
MAIL: Final = "mail"
MAIL_NICKNAME: Final = "mailnickname"
PROXY_ADDRESSES: Final = "proxyaddresses"
GIVEN: Final = (USER_PRINCIPAL_NAME, USAGE_LOCATION, MAIL, MAIL_NICKNAME, PROXY_ADDRESSES)
"""The properties that are facts of their own (contract, section 2), as the user was given them."""

_is_extension: Final = re.compile(
    r"extensionattribute(?:[1-9]|1[0-5])|extension_[0-9a-z]+_\w+", re.ASCII
).fullmatch


def property_key(name: str) -> str:
    """Returns the key of the property with this name, or of any other attribute."""
    key = name.lower()
    return SAME_PROPERTY.get(key, key)


def property_type(key: str) -> PropertyType | None:
    """Returns the type of the property with this key; None if rules may not name it."""
    found = PROPERTIES.get(key)
    if found is None and _is_extension(key):
        return PropertyType.ANY
    return found
