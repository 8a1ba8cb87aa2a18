"""Where keys of tokens are published: one address, or one for each issuer, which a token names."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec
from jwt import InvalidTokenError
from msgspec import Struct

from gateway.auth.keys import segment
from gateway.config.masking import masked
from gateway.config.settings import TokenSettings
from gateway.errors import SettingsError

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_GROUP = re.compile(r"\(\?P<(\w+)>([^()]*)\)")
_WORD = re.compile(r"(?:[\w~-]|\\[.~-])+", re.ASCII)
"""A literal of a pattern that stands for itself alone."""

_EXAMPLE = '"https://issuer.example.com/.well-known/jwks.json"'


class Origin(Struct):
    """What a token says of where it comes from, whoever has signed it."""

    iss: str = ""
    aud: str | list[str] = ""


class KeyEndpoint:
    """The address in one section of the settings. Raises ``SettingsError`` for one that cannot be used.

    ``{{name}}`` in it stands for what a token's issuer or audience has in the group ``name`` of
    ``issuer_regex`` or ``audience_regex``. As anybody writes tokens, such a group can only choose from a list: else a
    stranger might have the gateway fetch his own keys.
    """

    def __init__(self, settings: TokenSettings, section: str) -> None:
        self.template = settings.jwks_public_endpoint
        self._names: list[str] = _PLACEHOLDER.findall(self.template)
        if not _is_address(_PLACEHOLDER.sub("x", self.template)):
            raise SettingsError(
                f"{section}.jwks_public_endpoint is no address of http or https, for example {_EXAMPLE}"
            )
        patterns = {"issuer_regex": settings.issuer_regex, "audience_regex": settings.audience_regex}
        for name in self._names:
            _check_choice(name, patterns, section)
        self._issuer, self._audience = map(re.compile, patterns.values())

    @property
    def terms(self) -> tuple[str, str, str]:
        """All that says where keys are."""
        return self.template, self._issuer.pattern, self._audience.pattern

    @property
    def varies(self) -> bool:
        """Whether tokens say which address it is."""
        return bool(self._names)

    def address(self, token: str) -> str:
        """Where the keys for a token are. Raises ``InvalidTokenError`` if it comes from nowhere that is known."""
        if not self._names:
            return self.template
        origin = _origin(token)
        audiences = [origin.aud] if isinstance(origin.aud, str) else origin.aud or [""]
        issuer = self._issuer.search(origin.iss)
        audience = next(filter(None, map(self._audience.search, audiences)), None)
        chosen = {**(issuer.groupdict() if issuer else {}), **(audience.groupdict() if audience else {})}
        if issuer is None or audience is None or any(chosen[name] is None for name in self._names):
            raise InvalidTokenError("its issuer or audience is none of those whose keys are known")
        return _PLACEHOLDER.sub(lambda found: str(chosen[found[1]]), self.template)


def name_of(address: str) -> str:
    """The address as logs and health may show it: a password or a query may be a secret."""
    return masked(address.partition("?")[0])


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and "{{" not in text
    except ValueError:
        return False


def _check_choice(name: str, patterns: Mapping[str, str], section: str) -> None:
    """Raises ``SettingsError`` unless one of the patterns has the group ``name``, and each that has it as a list."""
    having = [setting for setting, pattern in patterns.items() if name in re.compile(pattern).groupindex]
    for setting in having:
        words = dict(_GROUP.findall(patterns[setting])).get(name, "").split("|")
        if not all(_WORD.fullmatch(word) for word in words):
            raise SettingsError(
                f"{section}.{setting} has in its group {name} more than a list of words, and anybody could have keys "
                f"of his own fetched: write for example {setting} = {_example(name)}"
            )
    if not having:
        raise SettingsError(
            f"{section}.jwks_public_endpoint has {{{{{name}}}}}, and no pattern says what that is: write for example "
            f"issuer_regex = {_example(name)}"
        )


def _example(name: str) -> str:
    return f'"^https://(?P<{name}>one|two)\\\\.example\\\\.com$"'


def _origin(token: str) -> Origin:
    try:
        return msgspec.json.decode(segment(token.split(".")[1].encode("ascii")), type=Origin)
    except (IndexError, ValueError, msgspec.DecodeError, RecursionError) as error:
        raise InvalidTokenError("its issuer and audience cannot be read") from error
