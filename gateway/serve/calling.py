"""The commands that call the server API: ``gateway publish`` and ``gateway info``."""

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from gateway.config.masking import masked
from gateway.config.settings import HTTPAPISettings, Settings
from gateway.config.sources import load
from gateway.serve.address import GatewayAddress
from gateway.serve.options import Channel, Config, Dev, Failure, Json, Key, Url, print_json, say, told
from gateway.serve.reaching import Reach, reach

if TYPE_CHECKING:
    import httpx

COLUMNS = {
    "name": "Node",
    "version": "Version",
    "num_clients": "Clients",
    "num_users": "Users",
    "num_subs": "Subscriptions",
    "num_channels": "Channels",
    "uptime": "Uptime (s)",
}


def publish(
    channel: Channel,
    data: Annotated[str, typer.Argument(help="JSON; what is not JSON is sent as a string.")],
    url: Url = None,
    key: Key = None,
    dev: Dev = False,
    file: Config = None,
    json: Json = False,
) -> None:
    """Publish into a channel, over the HTTP API, and print its answer, which is JSON."""
    with told(json):
        try:
            msgspec.json.decode(data)
            raw = data.encode()
        except msgspec.DecodeError:
            say("not JSON, sent as a string")
            raw = msgspec.json.encode(data)
        print_json(_call(load(file, dev=dev), "publish", {"channel": channel, "data": msgspec.Raw(raw)}, url, key))


def info(url: Url = None, key: Key = None, dev: Dev = False, file: Config = None, json: Json = False) -> None:
    """Show the nodes that run."""
    from rich.console import Console  # the other commands start faster without
    from rich.table import Table

    with told(json):
        result = _call(load(file, dev=dev), "info", {}, url, key)
        if json:
            print_json(result)
            return
        table = Table(*COLUMNS.values())
        for node in result.get("nodes") or ():
            table.add_row(*(str(node.get(name, "")) for name in COLUMNS))
        Console().print(table)


def _call(settings: Settings, method: str, params: dict[str, Any], url: str | None, key: str | None) -> dict[str, Any]:
    """Call the server API and return the result. Raises `Failure`, and `SettingsError` for a wrong address."""
    import httpx  # the other commands start faster without

    found = Reach(GatewayAddress(url).http) if url else reach(settings, operators=True)
    base = found.url
    try:
        api_key = (key or _key(settings.http_api)).encode("latin-1")
        headers = {b"Content-Type": b"application/json", b"X-API-Key": api_key}
        with _client(found) as client:
            response = client.post(f"{base}/api/{method}", content=msgspec.json.encode(params), headers=headers)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise Failure(
                f"{masked(base)} refuses the API key: give one of its http_api.key and http_api.keys with --key"
            )
        if response.is_error:
            raise Failure(f"{masked(base)} answers with HTTP {response.status_code}; give its address with --url")
        answer = response.json()
        if not isinstance(answer, dict):
            raise ValueError("its answer is no object")
    except UnicodeEncodeError as error:
        raise Failure("the API key cannot be sent: it has characters that a header cannot") from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Failure(f"{masked(base)} does not answer as a gateway: {error}; give its address with --url") from error
    if refusal := answer.get("error"):
        raise Failure(f"{method}: {refusal['message']} ({refusal['code']})")
    result: dict[str, Any] = answer.get("result", {})
    return result


def _client(found: Reach) -> "httpx.Client":
    """What calls a gateway there."""
    import httpx

    if not (found.path or found.tls):
        return httpx.Client()
    return httpx.Client(transport=httpx.HTTPTransport(uds=found.path or None, verify=found.tls or True))


def _key(api: HTTPAPISettings) -> str:
    return api.key or next(iter(api.keys.values()), "")
