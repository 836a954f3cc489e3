"""E-mail addresses: one strict form, so that one person is one address and no address can carry a mail
header. Pure.

Rules: one `@`; a local part of 1 to 64 characters, dot-atom of RFC 5322 (no quotes, comments or spaces),
ASCII; a domain of at least two labels, letters, digits and inner hyphens, given in ASCII or as IDNA (2008,
UTS 46); at most 254 characters in ASCII. The normal form is lower-case ASCII. Address literals
(`[192.0.2.1]`) and bare host names are refused.
"""

from __future__ import annotations

import re
from typing import Final

import idna

from yggdrasil.errors import InvalidInput

ADDRESS_CHARS_MAX: Final = 254
LOCAL_CHARS_MAX: Final = 64
_LOCAL: Final = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII)
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


def normalise(text: str, *, field: str = "email") -> str:
    """The one form of an address, or InvalidInput, which names the rule and never repeats the address."""
    if not 3 <= len(text) <= ADDRESS_CHARS_MAX:
        raise InvalidInput(f"{field} must be 3 to {ADDRESS_CHARS_MAX} characters", field=field)
    local, at, domain = text.rpartition("@")
    if not at or "@" in local:
        raise InvalidInput(f"{field} must hold exactly one @", field=field)
    # ASCII first: lower() turns some other letters into ASCII ones (the Kelvin sign into k).
    if len(local) > LOCAL_CHARS_MAX or not local.isascii() or _LOCAL.fullmatch(local.lower()) is None:
        raise InvalidInput(
            f"{field}: the part before the @ must be 1 to {LOCAL_CHARS_MAX} ASCII letters, digits or "
            ".!#$%&'*+/=?^_`{|}~- with dots only inside and never two in a row",
            field=field,
        )
    address = f"{local.lower()}@{_ascii_domain(domain, field)}"
    if len(address) > ADDRESS_CHARS_MAX:
        raise InvalidInput(f"{field} must be at most {ADDRESS_CHARS_MAX} characters in ASCII", field=field)
    return address


def _ascii_domain(domain: str, field: str) -> str:
    rule = f"{field}: the part after the @ must be a domain of at least two labels, ASCII or IDNA"
    try:
        # An ASCII domain goes through IDNA only for its xn-- labels, so that valid old names with other
        # shapes pass.
        if domain.isascii() and "xn--" not in domain.lower():
            ascii_domain = domain.lower()
        else:
            ascii_domain = idna.encode(domain, uts46=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        raise InvalidInput(rule, field=field) from None
    labels = ascii_domain.split(".")
    if len(labels) < 2 or any(_LABEL.fullmatch(label) is None for label in labels) or labels[-1].isdigit():
        raise InvalidInput(rule, field=field)
    return ascii_domain
