"""R18: proxy addresses are compared without regard to the case of ASCII letters."""

from __future__ import annotations

import pytest

from engine.domain.proxy_address import lower_ascii, normalize_proxy_address
from engine.rules.mail_attributes import mail_attributes, mail_key
from streams.contract.field_checks import check_addresses

KELVIN = "\u212a"
DOTTED_I = "\u0130"  # str.lower makes two characters of it


@pytest.mark.parametrize("address", ["Kim@X.example", "SMTP:Kim@x.EXAMPLE", "smtp:kim@x.example"])
def test_ascii_letters_have_no_case(address: str) -> None:
    assert normalize_proxy_address(address) == "smtp:kim@x.example"
    assert mail_key(address.rpartition(":")[2]) == "smtp:kim@x.example"


@pytest.mark.parametrize("other", [f"{KELVIN}im@x", f"k{DOTTED_I}m@x"])
def test_no_other_letter_becomes_one_of_ascii(other: str) -> None:
    """A look-alike claims an address of its own, not somebody else's."""
    assert normalize_proxy_address(other) != normalize_proxy_address("kim@x")
    assert mail_key(other) != mail_key("kim@x")
    assert len(lower_ascii(other)) == len(other)
    assert check_addresses([f"smtp:{other}", "smtp:kim@x"]) == (f"smtp:{other}", "smtp:kim@x")
    _, shown = mail_attributes(None, (f"SMTP:{other}",), "kim@x", None)
    assert shown == (f"SMTP:{other}", "smtp:kim@x")


def test_other_letters_keep_their_case() -> None:
    assert normalize_proxy_address("\u00c9lan@X") == "smtp:\u00c9lan@x"
