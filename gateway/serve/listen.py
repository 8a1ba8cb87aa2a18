"""The command ``gateway listen``."""

import asyncio
import random
import sys
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
import typer
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)

from gateway.config.masking import masked
from gateway.config.sources import load
from gateway.errors import Disconnect, SettingsError
from gateway.serve.address import GatewayAddress
from gateway.serve.minting import mint
from gateway.serve.options import Channel, Config, Dev, Failure, Json, Url, print_json, say, told
from gateway.serve.reaching import reach

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
"""Seconds before it connects again."""

_FOR_A_WHILE = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_REMEDIES: dict[int, str] = {
    HTTPStatus.OK: "it speaks no WebSocket there; give the address of a gateway with --url",
    HTTPStatus.UNAUTHORIZED: "something in front of it wants to know who you are",
    HTTPStatus.FORBIDDEN: "it, or something in front of it, does not let you in",
    HTTPStatus.NOT_FOUND: "there is no gateway at this address; give its own with --url",
    HTTPStatus.UPGRADE_REQUIRED: "something in front of it lets no WebSocket through",
}


def listen(
    channel: Channel,
    url: Url = None,
    user: Annotated[str, typer.Option("--user", "-u", help="User id to connect as.")] = "cli",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell of joins and leaves, too.")] = False,
    dev: Dev = False,
    file: Config = None,
    json: Json = False,
) -> None:
    """Print what is published into a channel, one line each, until Ctrl-C.

    That is the data of each publication; with --json an object with all of it, and with --verbose of joins and leaves.
    """
    with told(json):
        settings = load(file, dev=dev)
        tokens = mint(settings, user, 0, None), mint(settings, user, 0, channel)
        found = None if url else reach(settings)
        address = found.websocket if found else GatewayAddress(url or "").websocket
        with suppress(KeyboardInterrupt):
            asyncio.run(_listen(address, found.options if found else {}, channel, tokens, verbose, json))


async def _listen(
    url: str, options: dict[str, Any], channel: str, tokens: tuple[str, str], verbose: bool, json: bool
) -> None:
    """Stay subscribed. Raises `Failure` when the server will not have us, `SettingsError` for a wrong address."""
    pause, place = FIRST_PAUSE, masked(url)
    while True:
        try:
            async with connect(url, max_size=None, ping_interval=None, **options) as connection:
                listener = Listener(connection, channel, verbose, json)
                await listener.run(*tokens)
        except InvalidURI as error:
            raise SettingsError(
                f"{place} is not an address such as ws://127.0.0.1:8000/connection/websocket"
            ) from error
        except ConnectionClosed as error:
            code, reason = (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "connection lost")
            if not Disconnect(code, reason).reconnect:
                raise Failure(f"closed by the server: {reason} ({code})") from error
            if listener.subscribed:
                pause = FIRST_PAUSE
            say(f"closed: {reason} ({code})")
        except InvalidHandshake as error:
            _check_passing(place, error)
            say(f"{place}: {error}")
        except (OSError, WebSocketException) as error:
            say(f"{place}: {error}")
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  spreads clients, hides nothing
        pause = min(2 * pause, LONGEST_PAUSE)


def _check_passing(place: str, error: InvalidHandshake) -> None:
    """Raises `Failure` for a refused handshake that will be refused the next time, too."""
    match error:
        case InvalidStatus():
            status = error.response.status_code
            if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _FOR_A_WHILE:
                remedy = _REMEDIES.get(status, "it will not have this connection")
                raise Failure(f"{place} answers with HTTP {status}: {remedy}") from error
        case InvalidMessage() if isinstance(error.__cause__, EOFError):
            pass  # cut off, as by a server that restarts
        case _:
            raise Failure(f"{place} does not speak WebSocket: {error}; give its address with --url") from error


class Listener:
    """One connection of `listen`: Centrifuge JSON, reduced to what is needed."""

    def __init__(self, connection: ClientConnection, channel: str, verbose: bool, json: bool) -> None:
        self.subscribed = False
        self._connection = connection
        self._channel = channel
        self._verbose = verbose
        self._json = json
        self._pong = False

    async def run(self, connection_token: str, subscription_token: str) -> None:
        """Until the connection closes, which raises `ConnectionClosed`. Raises `Failure` for what is no gateway."""
        subscribe = {"channel": self._channel, "token": subscription_token}
        commands = {"id": 1, "connect": {"token": connection_token, "name": "cli"}}, {"id": 2, "subscribe": subscribe}
        await self._connection.send("\n".join(msgspec.json.encode(command).decode() for command in commands))
        while True:
            for line in str(await self._connection.recv(decode=True)).splitlines():
                try:
                    await self._reply(msgspec.json.decode(line, type=dict))
                except (msgspec.DecodeError, LookupError, TypeError, AttributeError) as error:
                    raise Failure(f"the server does not speak as a gateway does: {line:.100}") from error

    async def _reply(self, reply: dict[str, Any]) -> None:
        match reply:
            case {"error": {"temporary": True}} | {"push": {"unsubscribe": {"code": 2500 | 2501 | 2502}}}:
                await self._connection.close()  # and so begin anew
            case {"error": {"code": code, "message": message}}:
                raise Failure(f"{'connect' if reply['id'] == 1 else 'subscribe'}: {message} ({code})")
            case {"connect": result}:
                self._pong = result.get("pong", False)
            case {"subscribe": result}:
                self.subscribed = True
                say(f"subscribed to {self._channel}")
                for publication in result.get("publications", ()):
                    self._print(publication)
            case {"push": {"unsubscribe": {"code": code, "reason": reason}}}:
                raise Failure(f"unsubscribed by the server: {reason} ({code})")
            case {"push": {"pub": publication}}:
                self._print(publication)
            case {"push": {"join": member} | {"leave": member} as push} if self._verbose:
                self._tell("join" if "join" in push else "leave", member["info"])
            case _ if not reply and self._pong:
                await self._connection.send("{}")

    def _print(self, publication: dict[str, Any]) -> None:
        print_json({"publication": publication} if self._json else publication["data"])
        sys.stdout.flush()  # a pipe shows each line at once

    def _tell(self, what: str, member: dict[str, Any]) -> None:
        if self._json:
            print_json({what: member})
            sys.stdout.flush()
        else:
            say(f"{member['user'] or 'anonymous'} {what}s ({member['client']})")
