"""Which addresses are asked, and in what order."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2convert.download.addresses import Address, HostMemory, check_address, is_loopback, mirror_address, shown
from r2convert.errors import RefusedAddressError


@pytest.mark.parametrize(
    "url",
    ["https://example.com/f", "http://127.0.0.1:8000/f", "http://localhost/f", "http://[::1]/f", "http://127.9.9.9/f"],
)
def test_https_and_the_loopback_pass(url: str) -> None:
    check_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/f",
        "http://127.0.0.1.example.com/f",
        "http://localhost.example.com/f",
        "http://127.0.0.1@example.com/f",
        "http://0.0.0.0/f",
        "ftp://example.com/f",
        "file:///etc/passwd",
        "data:text/plain,x",
        "https://",
        "https://[::1/f",
        "https://example.com:port/f",
        "/etc/passwd",
        "",
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    with pytest.raises(RefusedAddressError) as caught:
        check_address(url)
    assert "--import" in (caught.value.next_step or "")


def test_no_redirect_leads_from_https_to_http_not_even_on_the_loopback() -> None:
    check_address("http://127.0.0.1/f", came_from="http://127.0.0.1/g")
    with pytest.raises(RefusedAddressError, match="redirects"):
        check_address("http://127.0.0.1/f", came_from="https://example.com/g")


@given(st.text())
def test_whatever_an_address_is_it_passes_or_is_refused(url: str) -> None:
    with contextlib.suppress(RefusedAddressError):
        check_address(url)
        assert url.strip().lower().startswith(("https://", "http://"))


@given(st.ip_addresses(v=4))
def test_the_loopback_is_one_network(address: IPv4Address) -> None:
    assert is_loopback(str(address)) == str(address).startswith("127.")


def test_a_mirror_is_a_base_url_or_a_folder() -> None:
    assert mirror_address("http://127.0.0.1:80/w/", "a b.pth").text == "http://127.0.0.1:80/w/a%20b.pth"
    assert mirror_address("/srv/weights", "a b.pth").text == "/srv/weights/a b.pth"


def test_hosts_that_failed_come_last() -> None:
    hosts = HostMemory()
    hosts.mark_down(Address("https://slow.example/a"))
    hosts.mark_down(Address("/srv/weights/a"))
    folder, slow, good = map(Address, ["/srv/weights/b", "https://slow.example/b", "https://good.example/b"])
    assert hosts.in_order([folder, slow, good]) == [folder, good, slow]


@pytest.mark.parametrize(
    ("url", "text", "login"),
    [
        ("https://example.com/f", "https://example.com/f", None),
        ("https://me:secret@example.com/f", "https://example.com/f", ("me", "secret")),
        ("https://token@example.com:8443/f?x=1", "https://example.com:8443/f?x=1", ("token", "")),
        ("https://me:p%40%2Fs@example.com/f", "https://example.com/f", ("me", "p@/s")),
        ("https://me:p@ss@example.com/f", "https://example.com/f", ("me", "p@ss")),
        ("https://example.com/@scope/f", "https://example.com/@scope/f", None),
        ("https://[::1]:80/@scope/f", "https://[::1]:80/@scope/f", None),
        ("/srv/me:secret@here/f", "/srv/me:secret@here/f", None),
    ],
)
def test_a_login_is_taken_out_of_an_address(url: str, text: str, login: tuple[str, str] | None) -> None:
    address = Address.of(url)
    assert (address.text, address.login) == (text, login)
    assert "secret" not in repr(address) or login is None


def test_a_password_that_is_not_escaped_is_refused_without_being_repeated() -> None:
    with pytest.raises(RefusedAddressError, match="not allowed") as caught:
        check_address(Address.of("https://me:se/cret@example.com/f").text)
    assert "%2F" in (caught.value.got or "")
    assert "cret" not in str(caught.value)


def test_text_of_libraries_is_shown_without_logins() -> None:
    assert shown("Failed to parse: http://me:secret@proxy:x/ now") == "Failed to parse: http://proxy:x/ now"
