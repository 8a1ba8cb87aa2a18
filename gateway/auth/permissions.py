"""What a client may do in a channel: decisions only, from its options and the user's id.

Source: Centrifuge protocol, permission rules. Every function here decides for clients without a subscription
token; a token decides alone. ``insecure`` is the setting client.insecure.
"""

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from gateway.channels import Channel
from gateway.config.settings import ChannelOptions
from gateway.errors import Error, ErrorCode
from gateway.messages import SubscribeRequest

_json = Decoder(Raw)


class Features(Struct, frozen=True):
    """What a subscription has: position control, recovery, join and leave messages."""

    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False


NO_FEATURES = Features()


def may_subscribe(channel: Channel, user: str, *, insecure: bool = False) -> bool:
    """Whether the user may subscribe without token, alone or by the ``subs`` of a connect request."""
    options, users = channel.options, channel.users
    if channel.private or (users is not None and user not in users):
        return False
    listed = users is not None and options.allow_user_limited_channels
    known = user or options.allow_subscribe_for_anonymous
    return bool(listed or insecure or (options.allow_subscribe_for_client and known))


def may_publish(options: ChannelOptions, user: str, subscribed: bool, *, insecure: bool = False) -> bool:
    return insecure or _allows(
        user,
        subscribed,
        options.allow_publish_for_client,
        options.allow_publish_for_subscriber,
        options.allow_publish_for_anonymous,
    )


def may_set(options: ChannelOptions, user: str, subscribed: bool, *, insecure: bool = False) -> bool:
    """Whether the user may set keys of a map."""
    found = options.map
    return insecure or _allows(
        user,
        subscribed,
        found.allow_publish_for_client,
        found.allow_publish_for_subscriber,
        found.allow_publish_for_anonymous,
    )


def may_remove(options: ChannelOptions, user: str, subscribed: bool, *, insecure: bool = False) -> bool:
    """Whether the user may remove them."""
    found = options.map
    return insecure or _allows(
        user,
        subscribed,
        found.allow_remove_for_client,
        found.allow_remove_for_subscriber,
        found.allow_remove_for_anonymous,
    )


def may_read_presence(options: ChannelOptions, user: str, subscribed: bool, *, insecure: bool = False) -> bool:
    return insecure or _allows(
        user,
        subscribed,
        options.allow_presence_for_client,
        options.allow_presence_for_subscriber,
        options.allow_presence_for_anonymous,
    )


def may_read_history(options: ChannelOptions, user: str, subscribed: bool, *, insecure: bool = False) -> bool:
    return insecure or _allows(
        user,
        subscribed,
        options.allow_history_for_client,
        options.allow_history_for_subscriber,
        options.allow_history_for_anonymous,
    )


def granted_features(
    options: ChannelOptions, user: str, request: SubscribeRequest, *, insecure: bool = False
) -> Features:
    """What the options force, and what they grant of the request's flags; the rest is ignored in silence.

    ``options`` are those of the channel after the token's override, if any.
    """
    keeps, streams = options.keeps_history, options.is_map and options.map.streams
    if not (keeps or streams or options.join_leave):
        return NO_FEATURES
    recoverable = keeps and (
        options.force_recovery
        or (
            request.recoverable and (options.allow_recovery or may_read_history(options, user, True, insecure=insecure))
        )
    )
    positioned = keeps and (
        recoverable
        or options.force_positioning
        or options.replay
        or (
            request.positioned
            and (options.allow_positioning or may_read_history(options, user, True, insecure=insecure))
        )
    )
    join_leave = options.join_leave and (
        options.force_push_join_leave
        or (request.join_leave and may_read_presence(options, user, True, insecure=insecure))
    )
    return Features(positioned or streams, recoverable or streams, join_leave)


def check_payload(options: ChannelOptions, data: bytes, *, known_json: bool) -> None:
    """Raises ``Error`` (bad request) for data that the channel does not take.

    ``known_json`` spares parsing data that came as part of a JSON message.
    """
    wanted = options.publication_data_format
    if wanted == "binary":
        return
    json_object = wanted == "json_object"
    if not data or (json_object and not data.lstrip().startswith(b"{")):
        raise Error(ErrorCode.BAD_REQUEST)
    if wanted and not known_json and not is_json(data):
        raise Error(ErrorCode.BAD_REQUEST)


def is_json(data: bytes) -> bool:
    try:
        data.decode()  # the parser looks at structure only
        _json.decode(data)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _allows(user: str, subscribed: bool, for_client: bool, for_subscriber: bool, for_anonymous: bool) -> bool:
    return (for_client or (for_subscriber and subscribed)) and (bool(user) or for_anonymous)
