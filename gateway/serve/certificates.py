"""What a server shows by TLS, read anew when its files change."""

import logging
import os
import ssl
from contextlib import ExitStack
from pathlib import Path

from gateway.config.pem import as_file, is_text
from gateway.config.settings import ServerTLSSettings
from gateway.errors import SettingsError

log = logging.getLogger("gateway.serve.certificates")


class Certificates:
    """``context`` for listening sockets: what it shows to new connections changes, and old ones live on.

    Call `look` now and then. Raises `SettingsError` for keys and certificates that cannot be used. ``key`` names the
    settings.
    """

    def __init__(self, tls: ServerTLSSettings, key: str) -> None:
        self._tls = tls
        self._key = key
        self._files = [pem for pem in (tls.cert_pem, tls.key_pem) if not is_text(pem)]
        self._used = self._seen = self._state()
        self.context = self._shown = self._load()
        self.context.sni_callback = self._choose  # called for every handshake, with a name or without

    def look(self) -> None:
        """Read what has changed, once two looks have seen it. What cannot be used is told, and changes nothing."""
        before, self._seen = self._seen, self._state()
        if self._seen == self._used or self._seen != before:
            return
        self._used = self._seen
        try:
            self._shown = self._load()
        except SettingsError as error:
            log.error("%s; new connections are still shown the certificate from before", error)
        else:
            log.info("%s has changed: new connections are shown the new certificate", self._key)

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._shown

    def _state(self) -> list[tuple[int, ...]]:
        """What tells one state of the files from another."""
        state: list[tuple[int, ...]] = []
        for file in self._files:
            try:
                found = os.stat(file)
            except OSError:
                state.append((0,))
            else:
                state.append((found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
        return state

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        for name in ("cert_pem", "key_pem", "client_ca_pem"):
            self._check_file(name, getattr(self._tls, name))
        try:
            with ExitStack() as stack:
                cert, key = (stack.enter_context(as_file(pem)) for pem in (self._tls.cert_pem, self._tls.key_pem))
                context.load_cert_chain(cert, key, password="")  # of a key that has one; else OpenSSL asks the terminal
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise SettingsError(f"{self._key}.key_pem is not the key of {self._key}.cert_pem") from error
            raise SettingsError(
                f"{self._key}.cert_pem and key_pem cannot be used ({error.reason or error}): both must be PEM, and the "
                "key without a password"
            ) from error
        self._trust_clients(context)
        return context

    def _check_file(self, name: str, pem: str) -> None:
        if pem and not is_text(pem):
            try:
                Path(pem).read_bytes()
            except OSError as error:
                raise SettingsError(f"{self._key}.{name}: {pem} cannot be read: {error.strerror}") from error

    def _trust_clients(self, context: ssl.SSLContext) -> None:
        authorities = self._tls.client_ca_pem
        if not authorities:
            return
        context.verify_mode = ssl.CERT_REQUIRED
        inline = is_text(authorities)
        try:
            context.load_verify_locations(None if inline else authorities, None, authorities if inline else None)
        except ssl.SSLError as error:
            raise SettingsError(f"{self._key}.client_ca_pem has no certificate that can be used") from error


def certificates(tls: ServerTLSSettings, key: str) -> Certificates | None:
    """Those of the settings, if TLS is on. Raises `SettingsError`."""
    return Certificates(tls, key) if tls.enabled else None
