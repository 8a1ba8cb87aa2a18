"""What is wrong when a program asks something of a channel, and what to write instead.

Clients are told the catalogue's few words; who reads this is a programmer, in a traceback or a log.
"""

from difflib import get_close_matches

from gateway.auth.permissions import check_payload
from gateway.channels import Channel, Channels
from gateway.errors import Error, ErrorCode
from gateway.maps.base import KEY_MODES, MapWrite
from gateway.messages import Position, Publication
from gateway.program.encoding import is_text

SHOWN, SHOWN_NAME = 5, 200
"""Patterns that a text names at most, and characters of a name, which may be a client's."""

_TAKES = {"json": "JSON alone", "json_object": "JSON objects alone"}


class ChannelError(Error):
    """A channel is not there, or does not have what a program asks of it. The text says what to write.

    ``code`` and ``message`` are the catalogue's, and all that a client learns if a handler lets it escape.
    """

    def __init__(self, code: ErrorCode, advice: str) -> None:
        super().__init__(code)
        self.args = (code, advice)
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.code} {self.message}: {self.advice}"


def find_channel(channels: Channels, name: str) -> Channel:
    """The channel of a name that the program gives. Raises `ChannelError`, and ``TypeError`` for what is no name."""
    if not isinstance(name, str):
        raise TypeError(f'a channel is named by a str, as "chat:lobby", or chat.name(room="lobby"); this is {name!r}')
    try:
        return channels.resolve(name)
    except Error as error:
        name = name if len(name) <= SHOWN_NAME else f"{name[:SHOWN_NAME]}..."
        if error.code == ErrorCode.UNKNOWN_CHANNEL:
            raise ChannelError(ErrorCode.UNKNOWN_CHANNEL, _unknown(channels, name)) from None
        advice = f"{name!r} is no channel's name: that is text, with no line breaks or other control characters in it"
        raise ChannelError(ErrorCode.BAD_REQUEST, advice) from None


def check_presence(channel: Channel) -> Channel:
    """The same. Raises `ChannelError` if it has no presence."""
    if not channel.options.presence:
        how = _write(channel, presence="True")
        raise ChannelError(ErrorCode.NOT_AVAILABLE, f'"{channel.name}" has no presence; {how}')
    return channel


def check_history(channel: Channel) -> Channel:
    """The same. Raises `ChannelError` if it keeps no history."""
    if not channel.options.keeps_history:
        how = _write(channel, history_size="100", history_ttl="600")
        raise ChannelError(ErrorCode.NOT_AVAILABLE, f'"{channel.name}" keeps no history; {how}')
    return channel


def check_map(channel: Channel) -> Channel:
    """The same. Raises `ChannelError` if it is no map."""
    if not channel.options.is_map:
        advice = f'"{channel.name}" is no map; write gateway.channel("...", map={{"mode": "persistent"}})'
        raise ChannelError(ErrorCode.BAD_REQUEST, f"{advice}, or set subscription_type and map for its namespace")
    return channel


def history_error(channel: Channel, since: Position | None, error: Error) -> Error:
    """What a program is told in place of an error of history; others stay what they are."""
    if error.code == ErrorCode.UNRECOVERABLE_POSITION:
        advice = f'"{channel.name}" does not hold {since} any more: its stream has another epoch, that is, begun anew; '
        return ChannelError(ErrorCode.UNRECOVERABLE_POSITION, advice + "read without since=")
    if error.code == ErrorCode.BAD_REQUEST:
        advice = f'in "{channel.name}" nothing is before offset 0; for the newest first leave since= away'
        return ChannelError(ErrorCode.BAD_REQUEST, advice)
    return error


def check_publication(channel: Channel, publication: Publication) -> None:
    """Raises `ChannelError` if the channel does not take it."""
    if channel.options.is_map and not publication.key:
        how = f'await gateway.map("{channel.name}").publish(key, data)'
        raise ChannelError(ErrorCode.BAD_REQUEST, f'"{channel.name}" is a map, in which each value has a key: {how}')
    if channel.options.is_polled:
        how = "its backend answers what there is, and may say it before by shared_poll_publish of the server API"
        raise ChannelError(ErrorCode.BAD_REQUEST, f'"{channel.name}" is polled: {how}')
    try:
        check_payload(channel.options, publication.data, known_json=not publication.binary)
    except Error:
        wanted = channel.options.publication_data_format
        takes = f'{_TAKES[wanted]} (publication_data_format="{wanted}")' if wanted else "data that is not empty"
        # which is not shown: it may be secret, and this in a log
        raise ChannelError(ErrorCode.BAD_REQUEST, f'"{channel.name}" takes {takes}, which this is not') from None


def check_write(write: MapWrite) -> MapWrite:
    """The same. Raises ``TypeError`` or ``ValueError`` for what only a type checker would have refused."""
    if write.key_mode not in KEY_MODES:
        raise ValueError(f'key_mode is "if_new" or "if_exists", or left out, not {write.key_mode!r}')
    for name in ("idempotency_key", "version_epoch"):
        if not is_text(value := getattr(write, name)):
            raise TypeError(f'{name} is text, for example {name}="order-7", not {value!r:.100}')
    check_version(write.version)
    at: object = write.expected
    if not (at is None or isinstance(at, Position)):
        raise TypeError(f'expected is a position, as what publish() answered or Position(7, "epoch"), not {at!r:.100}')
    return write


def check_version(version: object) -> None:
    """Raises ``TypeError`` or ``ValueError`` for what brokers cannot compare."""
    if not isinstance(version, int) or isinstance(version, bool):
        raise TypeError(f"version is a number, for example 7, not {version!r:.100}")
    if not 0 <= version < 2**63:
        raise ValueError(f"version = {version} must lie between 1 and 2**63 - 1, for example 7; 0 is none")


def _unknown(channels: Channels, name: str) -> str:
    """Which patterns there are that are nearly this, or that there are at all."""
    known = [pattern for pattern in channels.declared() if not pattern.startswith("gateway:")]  # our own
    heads: dict[str, list[str]] = {}
    for pattern in known:
        heads.setdefault(_head(pattern), []).append(pattern)
    near = [pattern for head in get_close_matches(_head(name), heads, SHOWN, 0.5) for pattern in heads[head]]
    listed = ", ".join(f'"{pattern}"' for pattern in (near or known)[:SHOWN])
    found = f"the nearest are {listed}" if near else f"there are {listed}" if known else "there is none"
    return (
        f'no pattern matches "{name}"; {found}. A parameter ends at ":" and "/", unless it is written {{name:path}}. '
        f'Declare it: gateway.channel("{_head(name)}:{{name}}"), or "{_head(name)}" in channel.namespaces'
    )


def _head(name: str) -> str:
    """What comes before the first parameter or boundary."""
    return name.partition("{")[0].partition(":")[0]


def _write(channel: Channel, **options: str) -> str:
    """How a channel gets these options, which are written as in Python."""
    setting = " and ".join(f"{option} = {value.lower()}" for option, value in options.items())
    if channel.route is None and channel.namespace:
        return f'set {setting} for the namespace "{channel.namespace}" in channel.namespaces'
    pattern = channel.name if channel.route is None else channel.route.text
    declaration = f'gateway.channel("{pattern}", {", ".join(f"{option}={each}" for option, each in options.items())})'
    if channel.route is None:
        return f"write {declaration}, or set {setting} in channel.without_namespace"
    return f"write {declaration}"
