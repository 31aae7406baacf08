"""Which addresses a file may come from, in what order, and how they are shown: without credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from r2convert.errors import RefusedAddressError
from r2convert.files import printable

_LONGEST = 200
"""Characters of a server's text that a message repeats."""

_URL = re.compile(r"(?P<scheme>[^:/?#]*)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_LOGIN = re.compile(r"(?<=//)[^/\s]*@")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a file may come from.

    Args:
        text: a URL or a path, safe to show and store.
        login: user name and password that the URL held; they are used, and neither shown nor stored.
    """

    text: str
    login: tuple[str, str] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, text: str) -> Address:
        """Split an address; a malformed one is kept as it is, without what might be a password."""
        match = _URL.fullmatch(text)
        if match is None:
            return cls(text)
        scheme, authority, rest = match.groups()
        login, at, host = authority.rpartition("@")
        if not at and "@" in rest and not _has_sound_port(authority):
            # A password in which a slash was not escaped: check_address refuses what is left.
            return cls(f"{scheme}://...@{rest.rpartition('@')[2]}")
        if not at:
            return cls(text)
        user, _, password = login.partition(":")
        return cls(f"{scheme}://{host}{rest}", (unquote(user), unquote(password)))

    @property
    def is_url(self) -> bool:
        """Whether it is a URL rather than the path of a file."""
        return _is_url(self.text)


def mirror_address(mirror: str, file_name: str) -> Address:
    """Return where a mirror keeps a file: ``<mirror>/<file name>``, of a base URL or of a folder."""
    if _is_url(mirror):
        return Address.of(f"{mirror.rstrip('/')}/{quote(file_name)}")
    return Address(str(Path(mirror).expanduser() / file_name))


def _is_url(address: str) -> bool:
    return "://" in address


def check_address(url: str, *, came_from: str | None = None) -> None:
    """Allow only https, and http to this machine.

    Args:
        url: the address about to be requested, without credentials.
        came_from: the address that redirected to it, if any.

    Raises:
        RefusedAddressError: another scheme, no host, http to another machine, or a step down from https.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port  # a malformed port raises here rather than inside the HTTP library
    except ValueError as problem:
        raise _refused(url, came_from, f"a malformed address: {shown(str(problem))}") from problem
    if parts.username is not None:
        raise _refused(url, came_from, "a user name or password with a / that is not written as %2F")
    if parts.scheme not in ("http", "https") or not host:
        raise _refused(url, came_from, f"scheme {shown(parts.scheme) or 'none'}")
    if parts.scheme == "http" and came_from is not None and urlsplit(came_from).scheme == "https":
        raise _refused(url, came_from, "a redirect from https to plain http")
    if parts.scheme == "http" and not is_loopback(host):
        raise _refused(url, came_from, "plain http to another machine")


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address means this machine, without asking a name server."""
    import ipaddress  # here: `r2convert list` has no need of it

    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class HostMemory:
    """Hosts that failed in this run, so that the next file does not wait for them again. Threads may share it."""

    def __init__(self) -> None:
        self._down: set[str] = set()

    def mark_down(self, address: Address) -> None:
        """Remember that the host of ``address`` cannot be reached."""
        if address.is_url:
            self._down.add(urlsplit(address.text).netloc)

    def is_down(self, address: Address) -> bool:
        """Tell whether the host of ``address`` failed in this run."""
        return address.is_url and urlsplit(address.text).netloc in self._down

    def in_order(self, addresses: list[Address]) -> list[Address]:
        """Return the addresses with those on failed hosts last; otherwise in the given order."""
        return sorted(addresses, key=self.is_down)


def shown(text: str) -> str:
    """Make untrusted text safe for a message: one line, harmless, not too long, without credentials."""
    clean = printable(_LOGIN.sub("", text.strip()))
    return clean if len(clean) <= _LONGEST else clean[:_LONGEST] + "..."


def without_query(url: str) -> str:
    """Leave out the query: in redirects, it is often a signature that grants access."""
    path, mark, _ = url.partition("?")
    return path + mark + ("..." if mark else "")


def _has_sound_port(authority: str) -> bool:
    try:
        _ = urlsplit(f"//{authority}").port
    except ValueError:
        return False
    return True


def _refused(url: str, came_from: str | None, reason: str) -> RefusedAddressError:
    return RefusedAddressError(
        "the server redirects to an address that is not followed" if came_from else "this address is not allowed",
        where=shown(f"{came_from} -> {without_query(url)}" if came_from else url),
        expected="https (plain http only on the loopback)",
        got=reason,
        next_step="get the file by hand and use `r2convert fetch --import FILE`, or set R2CONVERT_MIRROR",
    )
