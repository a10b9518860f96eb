"""Mail addresses: what is accepted, under which key two of them are the same, and the hash that outlives them.

Only plain ASCII local parts: an address that some mail servers on the way cannot carry is refused at the form, not lost later.
International domains are accepted and written in their ASCII form.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import unicodedata

from paperworks.errors import InputError

MAX_ADDRESS = 254  # RFC 5321, section 4.5.3.1.3: a path is at most 256 with its brackets
MAX_LOCAL = 64
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def normalise(text: str) -> str:
    """The address as it is written into mails: local part as typed, domain in lower-case ASCII.

    Raises InputError for anything that is not one plain address.

    >>> normalise(" Ada.L@Exämple.ORG ")
    'Ada.L@xn--exmple-cua.org'
    """
    address = unicodedata.normalize("NFC", text).strip(" \t")
    if len(address) > MAX_ADDRESS:
        raise InputError(
            f"a mail address has at most {MAX_ADDRESS} characters, got {len(address)}; check what was pasted"
        )
    local, at, domain = address.rpartition("@")
    # '=?' would be read as an encoded word by mail programs: a second way to put line breaks into a header
    if not at or len(local) > MAX_LOCAL or not _LOCAL.fullmatch(local) or "=?" in local:
        raise InputError(f"not a mail address: {text[:80]!r}; expected one like name@example.org")
    try:
        ascii_domain = domain.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise InputError(f"not a mail domain: {domain[:80]!r}; expected one like example.org") from error
    labels = ascii_domain.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or len(ascii_domain) > 253:
        raise InputError(f"not a mail domain: {domain[:80]!r}; expected one like example.org")
    return f"{local}@{ascii_domain}"


def key(address: str) -> str:
    """Two addresses with one key are the same mailbox here.

    >>> key("Ada.L@Exämple.ORG") == key("ada.l@exämple.org")
    True
    """
    return normalise(address).casefold()


def address_hash(address: str) -> str:
    """What the suppression list and the log keep of an address: 64 hex digits, unchanged when the hub's secret is.

    >>> len(address_hash("ada@example.org"))
    64
    """
    return hashlib.sha256(f"paperworks address\n{key(address)}".encode()).hexdigest()


def network_of(host: str) -> str:
    """The network that a limit counts for: /24 of IPv4, /48 of IPv6; empty for what is not an address.

    >>> network_of("192.0.2.77"), network_of("2001:db8:1:2::3"), network_of("::ffff:192.0.2.9"), network_of("testclient")
    ('192.0.2.0/24', '2001:db8:1::/48', '192.0.2.0/24', '')
    """
    try:
        address = ipaddress.ip_address(host.split("%")[0].strip("[]"))
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    prefix = 24 if address.version == 4 else 48
    return str(ipaddress.ip_network(f"{address}/{prefix}", strict=False))
