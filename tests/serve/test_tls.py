"""TLS by the gateway itself: what is shown, to whom, and what becomes of a certificate that changes."""

import os
import shutil
import signal
import socket
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from websockets.sync.client import connect

from gateway.config.settings import ServerTLSSettings
from gateway.errors import SettingsError
from gateway.serve.certificates import Certificates, certificates
from tests.certificates import Authority
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.serve.gateways import Gateway
from tests.serve.processes import Process, settings_file
from tests.waiting import until_blocking

Start = Callable[..., Process]


class Site:
    """The files of a gateway's certificate, which can be replaced."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.directory = directory
        self.certificate, self.key = directory / "site.pem", directory / "site.key"
        self.renew("first")

    def renew(self, name: str, *, only: str = "") -> None:
        certificate, key = self.authority.issue(name, "127.0.0.1", "::1")
        if only != "key":
            shutil.copy(certificate, self.certificate)
        if only != "certificate":
            shutil.copy(key, self.key)

    @property
    def settings(self) -> dict[str, Any]:
        return {"enabled": True, "cert_pem": str(self.certificate), "key_pem": str(self.key)}

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority.path))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def shown(port: int, trust: ssl.SSLContext) -> str:
    """The name on the certificate that a new connection is shown."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        trust.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        certificate = sock.getpeercert(binary_form=True)
        assert certificate is not None
        found = x509.load_der_x509_certificate(certificate)
        [name] = found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return str(name.value)


# — a gateway —


@pytest.mark.parametrize("workers", [1, 2])
def test_a_certificate_changes_and_nobody_notices(
    server: RedisServer, tmp_path: Path, site: Site, workers: int
) -> None:
    """A connection from before lives on, with the one before; a broken one changes nothing, and is told."""
    http = {"tls": site.settings, "workers": workers, "port": free_port()}
    with Gateway(tmp_path, http, server.url if workers > 1 else "") as gateway:
        assert gateway.url.startswith("https://")
        token = gateway.run("token", "--user", "ann").strip()
        with connect(gateway.ws_url, ssl=site.trust, proxy=None) as client:
            client.send(f'{{"id":1,"connect":{{"token":"{token}"}}}}\n{{"id":2,"subscribe":{{"channel":"news"}}}}')
            answers = client.recv()
            while '"id":2' not in str(answers):
                answers = client.recv()
            assert shown(gateway.port, site.trust) == "first"
            site.renew("second")
            until_blocking(lambda: shown_by_all(gateway, site, workers) == {"second"}, deadline=30)
            site.renew("third", only="certificate")
            gateway.logged("http_server.tls.key_pem is not the key of http_server.tls.cert_pem", workers)
            assert shown_by_all(gateway, site, workers) == {"second"}
            site.key.unlink()
            gateway.logged(f"http_server.tls.key_pem: {site.key} cannot be read: No such file", workers)
            site.renew("fourth")
            until_blocking(lambda: shown_by_all(gateway, site, workers) == {"fourth"}, deadline=30)
            assert gateway.log.count("is not the key of") == workers, "what lasts is told once"
            gateway.run("publish", "news", '"still here"')
            assert "still here" in str(client.recv(timeout=10))
            if workers > 1:
                site.renew("fifth", only="key")
                gateway.signal(signal.SIGHUP)
                gateway.logged("these settings are not taken over")
                assert "fourth" in shown_by_all(gateway, site, workers)
                site.renew("fifth")
                gateway.signal(signal.SIGHUP)
                gateway.logged("the rolling restart is done")
                assert shown_by_all(gateway, site, workers) == {"fifth"}
        assert "refused" not in gateway.log


def shown_by_all(gateway: Gateway, site: Site, workers: int) -> set[str]:
    """What the workers show: of many connections each gets some."""
    return {shown(gateway.port, site.trust) for _ in range(1 if workers == 1 else 24)}


def test_a_message_larger_than_any_buffer(tmp_path: Path, site: Site) -> None:
    """The fan-out writes to the transport, which is TLS here; a client that reads slowly is served all the same."""
    with Gateway(tmp_path, {"tls": site.settings}) as gateway:
        token = gateway.run("token", "--user", "ann").strip()
        with connect(gateway.ws_url, ssl=site.trust, proxy=None, max_size=None) as client:
            client.send(f'{{"id":1,"connect":{{"token":"{token}"}}}}\n{{"id":2,"subscribe":{{"channel":"news"}}}}')
            answers = ""
            while '"id":2' not in answers:
                answers = str(client.recv())
            body = {"channel": "news", "data": "x" * 60_000}
            headers = {"X-API-Key": "key-of-the-tests"}
            with httpx.Client(verify=site.trust, headers=headers) as api:
                for _ in range(40):
                    assert api.post(f"{gateway.url}/api/publish", json=body).json() == {"result": {}}
            received = 0
            while received < 40:
                received += str(client.recv(timeout=10)).count("x" * 60_000)


def test_the_oldest_version_is_1_2(start: Start, tmp_path: Path, site: Site) -> None:
    process = start(file=settings_file(tmp_path, {"port": 0, "tls": site.settings}))
    process.logged("ready on https://127.0.0.1:")
    port = int(process.log.split("ready on https://127.0.0.1:")[1].split()[0])
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert shown(port, only(version, site.trust)) == "first"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shown(port, only(ssl.TLSVersion.TLSv1_1, site.trust))
    process.logged("127.0.0.1: connection refused: no TLS: UNSUPPORTED_PROTOCOL")


def only(version: ssl.TLSVersion, trust: ssl.SSLContext) -> ssl.SSLContext:
    """A client that speaks this version, however weak its ciphers."""
    trust.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        trust.minimum_version = trust.maximum_version = version
    return trust


def test_who_speaks_no_tls_is_refused_in_time(start: Start, tmp_path: Path, site: Site) -> None:
    file = settings_file(tmp_path, {"port": 0, "tls": site.settings})
    file.write_text(file.read_text().replace('"insecure": true', '"insecure": true, "message_timeout": "0.3s"'))
    process = start(file=file)
    process.logged("ready on https://127.0.0.1:")
    port = int(process.log.split("ready on https://127.0.0.1:")[1].split()[0])
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b"HTTP" not in ended(sock)
    process.logged("127.0.0.1: connection refused: no TLS: HTTP_REQUEST")
    for begun in (b"", b"\x16\x03\x01\x02\x00\x01"):
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            sock.sendall(begun)
            assert ended(sock) == b""
    assert shown(port, site.trust) == "first"


def ended(sock: socket.socket) -> bytes:
    received = b""
    try:
        while data := sock.recv(65536):
            received += data
    except ConnectionError:
        pass
    return received


def test_clients_may_have_to_show_a_certificate(start: Start, tmp_path: Path, site: Site) -> None:
    tls = {**site.settings, "client_ca_pem": str(site.authority.path)}
    process = start(file=settings_file(tmp_path, {"port": 0, "tls": tls}))
    process.logged("ready on https://127.0.0.1:")
    port = int(process.log.split("ready on https://127.0.0.1:")[1].split()[0])
    with pytest.raises(httpx.TransportError):
        httpx.get(f"https://127.0.0.1:{port}/", verify=site.trust, timeout=30)  # who goes first is not refused
    trust = site.trust
    trust.load_cert_chain(*map(str, site.authority.issue("client")))
    assert shown(port, trust) == "first"
    process.logged("no TLS: PEER_DID_NOT_RETURN_A_CERTIFICATE")


def test_a_start_with_a_broken_certificate_says_what_is_wrong(tmp_path: Path, site: Site) -> None:
    site.renew("other", only="key")
    gateway = Gateway(tmp_path, {"tls": site.settings})
    done = gateway.ran("serve")
    assert done.returncode == 2
    assert "gateway: http_server.tls.key_pem is not the key of http_server.tls.cert_pem" in done.stderr
    assert "Traceback" not in done.stderr
    checked = gateway.ran("config", "check")
    assert (checked.returncode, "is not the key of" in checked.stderr) == (2, True)


@pytest.mark.parametrize("apart", [{}, {"tls_external": True}, {"internal_tls": True}])
def test_operators_apart_have_the_same_certificate_or_another_or_none(
    tmp_path: Path, site: Site, apart: dict[str, Any]
) -> None:
    http = {"tls": site.settings, "internal_port": 0, **apart}
    if apart.get("internal_tls"):
        certificate, key = site.authority.issue("inner", "127.0.0.1")
        http["internal_tls"] = {"enabled": True, "cert_pem": certificate.read_text(), "key_pem": key.read_text()}
    with Gateway(tmp_path, http) as gateway:
        assert shown(gateway.port, site.trust) == "first"
        port = int(gateway.operators.rpartition(":")[2])
        if apart.get("tls_external"):
            assert httpx.get(f"http://127.0.0.1:{port}/health/live").status_code == 200
            assert gateway.operators.startswith("http://")
        else:
            assert shown(port, site.trust) == ("inner" if apart else "first")
            assert httpx.get(f"{gateway.operators}/health/live", verify=site.trust).status_code == 200


def test_the_command_line_believes_the_certificate_and_no_other(tmp_path: Path, site: Site) -> None:
    certificate, key = site.authority.issue("rt.example.com")  # as a public name has one
    shutil.copy(certificate, site.certificate)
    shutil.copy(key, site.key)
    with Gateway(tmp_path, {"tls": site.settings, "root_path": "/rt"}) as gateway:
        gateway.write({"tls": site.settings, "root_path": "/rt", "port": gateway.port})
        listening = Gateway(tmp_path, {"tls": site.settings, "root_path": "/rt", "port": gateway.port}, name="listen")
        listening.listen("news")
        with listening:
            listening.logged("subscribed to news")
            gateway.run("publish", "news", '"hello"')
            listening.logged('"hello"')
        assert "Node" in gateway.run("info")
        site.renew("other")
        answer = gateway.ran("publish", "news", "1")
        assert answer.returncode in (0, 1), "until the gateway has seen it"
        certificate, _ = site.authority.issue("stranger")
        gateway.write({"tls": {**site.settings, "cert_pem": str(certificate)}, "port": gateway.port})
        answer = gateway.ran("publish", "news", "1")
        assert (answer.returncode, "does not answer as a gateway" in answer.stderr) == (1, True)


# — the parts —


def loaded(site: Site, **changed: str) -> Certificates:
    return Certificates(ServerTLSSettings(**{**site.settings, **changed}), "http_server.tls")


def test_a_certificate_may_be_the_text_itself(site: Site) -> None:
    text = loaded(site, cert_pem=site.certificate.read_text(), key_pem=site.key.read_text())
    before = text._shown
    site.renew("second")
    text.look()
    text.look()
    assert text._shown is before
    assert certificates(ServerTLSSettings(), "http_server.tls") is None


def test_a_file_is_read_when_it_has_come_to_rest(site: Site) -> None:
    found = loaded(site)
    before = found._shown
    found.look()
    site.renew("second", only="certificate")
    found.look()
    site.renew("second")
    found.look()
    assert found._shown is before, "between two looks it has changed once more"
    found.look()
    after = found._shown
    assert after is not before
    found.look()
    os.utime(site.certificate, ns=(1, 1))
    found.look()
    found.look()
    assert found._shown is not after


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"cert_pem": "/nowhere.pem"}, r"http_server\.tls\.cert_pem: /nowhere\.pem cannot be read: No such file"),
        ({"key_pem": "/"}, r"http_server\.tls\.key_pem: / cannot be read: Is a directory"),
        ({"client_ca_pem": "/nowhere.pem"}, r"client_ca_pem: /nowhere\.pem cannot be read"),
        ({"cert_pem": "-----BEGIN CERTIFICATE-----\nx"}, "cert_pem and key_pem cannot be used"),
        ({"key_pem": "-----BEGIN PRIVATE KEY-----\nx"}, "cert_pem and key_pem cannot be used"),
        ({"client_ca_pem": "-----BEGIN CERTIFICATE-----\nx"}, "client_ca_pem has no certificate that can be used"),
    ],
)
def test_what_cannot_be_used(site: Site, changed: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError, match=text) as raised:
        loaded(site, **changed)
    assert "BEGIN" not in str(raised.value)


def test_a_key_with_a_password_asks_nobody(site: Site) -> None:
    key = serialization.load_pem_private_key(site.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    site.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))
    with pytest.raises(SettingsError, match="without a password"):
        loaded(site)
