"""What methods of the server API have in common to read."""

import base64
import binascii

from msgspec import Raw

from gateway.auth.permissions import check_payload, is_json
from gateway.channels import Channel
from gateway.core.node import Node
from gateway.errors import Error, ErrorCode
from gateway.messages import Payload


def find_channel(node: Node, name: str) -> Channel:
    if not name:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: channel must be given")
    return node.channels.resolve(name)


def decode(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: not base64") from error


def published(data: Raw, b64data: str, channel: Channel) -> tuple[Payload, bool]:
    """What is to be published, and whether it is no JSON; ``b64data`` wins. Raises ``Error`` where it is not taken."""
    plain = decode(b64data) if b64data else bytes(data)
    try:
        check_payload(channel.options, plain, known_json=not b64data)
    except Error as error:
        wanted = "a JSON object" if channel.options.publication_data_format == "json_object" else "JSON"
        what = f"data must be {wanted if plain else 'given'}"
        raise Error(ErrorCode.BAD_REQUEST, f"bad request: {what}") from error
    return Payload(plain), bool(plain and b64data) and not is_json(plain)
