"""Behind trusted proxies the address and the scheme of the client count, and nobody can choose another one."""

from __future__ import annotations

import pytest

from eventvault.access.proxies import Client, TrustedProxies, parse_address

NGINX, CDN, CLIENT, FORGED = "10.0.0.7", "192.0.2.9", "198.51.100.4", "203.0.113.66"


def client(trusted: list[str], peer: str, forwarded_for: str = "", scheme: str = "") -> Client:
    return TrustedProxies(trusted).client(peer, forwarded_for, scheme)


def test_without_trusted_proxies_the_peer_counts_whatever_it_says() -> None:
    assert client([], NGINX, CLIENT, "https") == (NGINX, "http")
    assert not TrustedProxies([])


def test_another_peer_than_a_trusted_proxy_is_the_client_whatever_it_says() -> None:
    assert client([NGINX], CLIENT, FORGED, "https") == (CLIENT, "http")


def test_a_trusted_proxy_says_whom_it_speaks_for() -> None:
    assert client([NGINX], NGINX, CLIENT, "https") == (CLIENT, "https")
    assert client(["10.0.0.0/8"], NGINX, CLIENT, "http") == (CLIENT, "http")
    assert client(["fd00::/8"], "fd00::7", "2001:db8::1", "HTTPS") == ("2001:db8::1", "https")


def test_what_a_client_put_into_the_header_itself_does_not_count() -> None:
    assert client([NGINX], NGINX, f"{FORGED}, {CLIENT}").address == CLIENT
    assert client([NGINX], NGINX, f"127.0.0.1, {NGINX}, {CLIENT}").address == CLIENT
    assert client([NGINX], NGINX, f"https, {CLIENT}", "https, http") == (CLIENT, "http")


def test_of_several_proxies_in_a_row_the_first_one_that_is_not_trusted_is_the_client() -> None:
    assert client([NGINX, CDN], NGINX, f"{FORGED}, {CLIENT}, {CDN}").address == CLIENT
    assert client([NGINX], NGINX, f"{CLIENT}, {CDN}").address == CDN


def test_if_all_are_proxies_the_client_is_on_the_machine_of_the_first_one() -> None:
    assert client([NGINX, CDN], NGINX, CDN).address == CDN
    assert client(["127.0.0.1"], "127.0.0.1").address == "127.0.0.1"


@pytest.mark.parametrize("text", ["", " ", ",", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "localhost", "1.2.3.4/8"])
def test_of_a_malformed_address_the_proxy_that_passed_it_on_is_the_client(text: str) -> None:
    assert client([NGINX], NGINX, text).address == NGINX
    assert client([NGINX, CDN], NGINX, f"{text}, {CDN}").address == CDN


@pytest.mark.parametrize(
    "text", ["198.51.100.4:5678", " 198.51.100.4 ", "::ffff:198.51.100.4", "[::ffff:198.51.100.4]:1"]
)
def test_an_address_may_have_a_port_and_be_mapped(text: str) -> None:
    assert client([NGINX], NGINX, text).address == CLIENT


def test_a_mapped_peer_is_the_ipv4_address() -> None:
    assert client([NGINX], f"::ffff:{NGINX}", CLIENT).address == CLIENT


def test_a_proxy_at_a_unix_socket_is_trusted_by_that_word() -> None:
    assert client(["unix"], "", CLIENT, "https") == (CLIENT, "https")
    assert client([NGINX], "", CLIENT, "https") == ("", "http")


@pytest.mark.parametrize("scheme", ["", "httpss", "wss", "http", "https,http", "on"])
def test_only_the_word_https_of_the_nearest_proxy_is_https(scheme: str) -> None:
    assert client([NGINX], NGINX, CLIENT, scheme).scheme == "http"


def test_a_header_of_any_length_is_read_from_its_end() -> None:
    assert client([NGINX], NGINX, ",".join([FORGED] * 100_000 + [CLIENT])).address == CLIENT


@pytest.mark.parametrize("name", ["10.0.0.7/8", "nginx", "10.0.0", "", "::1%eth0x/64/2", "10.0.0.0/33"])
def test_what_is_no_network_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        TrustedProxies([name])


def test_a_zone_is_not_a_part_of_an_address() -> None:
    assert str(parse_address("fe80::1%eth0")) == "fe80::1"
