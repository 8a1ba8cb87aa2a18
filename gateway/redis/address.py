"""Addresses of Redis, as settings have them: one server, a group behind Sentinel, a Cluster.

The forms are those of Centrifugo: ``redis://``, ``rediss://`` (TLS), ``unix://``, host:port,
``redis+sentinel://host:port?sentinel_master_name=name&addr=host:port`` and ``redis+cluster://host:port?addr=host:port``.
"""

import re
import ssl
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from gateway.config.masking import masked
from gateway.config.settings import RedisSettings, TLSSettings
from gateway.errors import SettingsError
from gateway.redis.endpoint import Endpoint, tls_context


class SentinelGroup(Struct, frozen=True):
    """A master by its name, whom sentinels know."""

    master_name: str
    sentinels: tuple[Endpoint, ...]
    master: Endpoint
    """How to log in to it, wherever it is."""


class ClusterSeeds(Struct, frozen=True):
    """Some servers of a Redis Cluster."""

    seeds: tuple[Endpoint, ...]


Place = Endpoint | SentinelGroup | ClusterSeeds


def read_addresses(settings: RedisSettings, key: str = "engine.redis") -> list[Place]:
    """What the addresses mean, one for each shard. Raises ``SettingsError``."""
    places: list[Place] = []
    for address in settings.addresses:
        try:
            places.append(_Address(address, settings).place())
        except (ValueError, OSError) as error:
            raise SettingsError(
                f'{key}.address = "{masked(address)}" cannot be used ({error}); write for example '
                "redis://127.0.0.1:6379/0, rediss://user:password@redis.example.com:6380, "
                "redis+sentinel://10.0.0.1:26379?sentinel_master_name=mymaster&addr=10.0.0.2:26379, "
                "redis+cluster://10.0.0.1:6379?addr=10.0.0.2:6379, or unix:///run/redis.sock"
            ) from None
    return places


class _Address:
    """One address, taken apart. Raises ``ValueError`` for what it must not have."""

    def __init__(self, address: str, settings: RedisSettings) -> None:
        if not address:
            raise ValueError("it is empty")
        if address[0] in "\"'":
            raise ValueError("it has quotation marks, which only a shell takes away")
        if re.match(r"(rediss?|unix)(\+[a-z]+)?(:/(?!/)|//)", address):
            raise ValueError("what comes first ends with ://, as in redis://127.0.0.1:6379")
        self._settings = settings
        url = urlsplit(address if "://" in address else f"redis://{address}")
        login, _, self._hosts = url.netloc.rpartition("@")
        if url.fragment or "@" in url.path:
            raise ValueError("special characters in a password are percent-encoded, such as %23 for #")
        name, _, secret = login.partition(":")
        self._user, self._password = unquote(name), unquote(secret)
        self._scheme, _, self._kind = url.scheme.partition("+")
        self._path = unquote(url.path)
        self._query = parse_qsl(url.query, keep_blank_values=True)

    def place(self) -> Place:
        readers: dict[tuple[str, str], Callable[[], Place]] = {
            ("redis", ""): self._server,
            ("rediss", ""): self._server,
            ("unix", ""): self._socket,
            ("redis", "sentinel"): self._group,
            ("rediss", "sentinel"): self._group,
            ("redis", "cluster"): self._cluster,
            ("rediss", "cluster"): self._cluster,
        }
        reader = readers.get((self._scheme, self._kind))
        if reader is None:
            form = f"{self._scheme}+{self._kind}" if self._kind else self._scheme
            raise ValueError(f"{form}://... is no form of address")
        place = reader()
        if self._query:
            raise ValueError(f"it takes no {self._query[0][0]}")
        return place

    def _server(self) -> Endpoint:
        return self._at(self._login(self._database()), self._hosts, 6379)

    def _socket(self) -> Endpoint:
        if self._hosts or not self._path.startswith("/"):
            raise ValueError("the path of a socket begins with a slash: unix:///run/redis.sock")
        path, self._path = self._path, ""
        return replace(self._login(self._database()), path=path)

    def _group(self) -> SentinelGroup:
        settings = self._settings
        name = self._take("sentinel_master_name", settings.sentinel_master_name)
        if not name:
            raise ValueError("it names no sentinel_master_name")
        context = _context(settings.sentinel_tls, bool(self._take("sentinel_tls_enabled")))
        user = self._take("sentinel_user", settings.sentinel_user)
        password = self._take("sentinel_password", settings.sentinel_password)
        sentinel = Endpoint(
            username=user, password=password, tls=context, server_name=settings.sentinel_tls.server_name
        )
        master = self._login(self._database())
        return SentinelGroup(name, tuple(self._at(sentinel, host, 26379) for host in self._all_hosts()), master)

    def _cluster(self) -> ClusterSeeds:
        if self._database():
            raise ValueError("a Redis Cluster has database 0 alone; take another engine.redis.prefix instead")
        login = self._login(0)
        return ClusterSeeds(tuple(self._at(login, host, 6379) for host in self._all_hosts()))

    # — parts —

    def _take(self, name: str, default: str = "") -> str:
        """A parameter, which may be there once."""
        values = [value for key, value in self._query if key == name]
        self._query = [(key, value) for key, value in self._query if key != name]
        if len(values) > 1:
            raise ValueError(f"{name} is there twice")
        return values[0] if values else default

    def _all_hosts(self) -> list[str]:
        hosts = [self._hosts, *(value for key, value in self._query if key == "addr")]
        self._query = [(key, value) for key, value in self._query if key != "addr"]
        return hosts

    def _database(self) -> int:
        text = self._take("db") or self._path.removeprefix("/")
        if text and not re.fullmatch("[0-9]{1,5}", text):
            if not self._hosts and "/" in text:
                raise ValueError("the path of a socket is written unix:///run/redis.sock")
            raise ValueError("the database is a number, as in redis://127.0.0.1:6379/0")
        return int(text or 0)

    def _login(self, db: int) -> Endpoint:
        settings = self._settings
        password = self._take("password") or self._password or settings.password
        return Endpoint(
            tls=self._tls(),
            server_name=settings.tls.server_name,
            username=self._take("user") or self._take("username") or self._user or settings.user,
            password=password,
            password_file="" if password else settings.password_file,
            db=db,
        )

    def _tls(self) -> ssl.SSLContext | None:
        """By the settings, and by what redis-py takes in a URL."""
        tls = self._settings.tls
        given = [(name, self._take(parameter)) for parameter, name in _TLS_PARAMETERS.items()]
        requirement = self._take("ssl_cert_reqs").lower().removeprefix("cert_") or "required"
        hostname = self._take("ssl_check_hostname").lower() or "true"
        if requirement not in ("required", "optional", "none"):  # to a client the first two are the same
            raise ValueError("ssl_cert_reqs is required, optional or none")
        tls = tls.model_copy(update={name: value for name, value in given if value})
        if requirement == "none":
            tls = tls.model_copy(update={"insecure_skip_verify": True})
        context = _context(tls, self._scheme == "rediss")
        if context is not None and hostname in ("false", "0", "no"):
            context.check_hostname = False
        return context

    def _at(self, login: Endpoint, host: str, default: int) -> Endpoint:
        """The host, and perhaps a port: ``h``, ``h:1``, ``[::1]:1``."""
        found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s:\[\]/?]*))(?::([0-9]{1,5}))?", host)
        if found is None or int(found[3] or 0) > 65535:
            raise ValueError(
                "its host or port is none; an IPv6 address stands in brackets, and special characters in a password "
                "are percent-encoded, such as %2F for /"
            )
        return replace(login, host=found[1] or found[2] or "127.0.0.1", port=int(found[3] or default))


_TLS_PARAMETERS = {
    "ssl_ca_certs": "server_ca_pem",
    "ssl_ca_data": "server_ca_pem",
    "ssl_certfile": "cert_pem",
    "ssl_keyfile": "key_pem",
}


def _context(settings: TLSSettings, wanted: bool) -> ssl.SSLContext | None:
    return tls_context(settings) if wanted or settings.enabled else None
