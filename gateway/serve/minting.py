"""The command ``gateway token``."""

import time
from typing import Annotated, Any

import typer

from gateway.auth.tokens import sign_connection, sign_subscription
from gateway.config.durations import parse_duration
from gateway.config.settings import Settings, TokenSettings
from gateway.config.sources import load
from gateway.errors import SettingsError
from gateway.serve.options import ChannelOption, Config, Dev, Json, print_json, told


def token(
    user: Annotated[str, typer.Option("--user", "-u", help="User id; empty for an anonymous one.")],
    ttl: Annotated[str, typer.Option(help='Life time, such as "30m" or "24h"; 0 is for ever.')] = "1h",
    channel: ChannelOption = None,
    dev: Dev = False,
    file: Config = None,
    json: Json = False,
) -> None:
    """Print a token with which a client connects, or subscribes to a channel."""
    try:
        seconds = float(parse_duration(ttl))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--ttl") from error
    with told(json):
        now = time.time()
        minted = mint(load(file, dev=dev), user, seconds, channel, now)
        if json:
            expire_at = int(now) + int(seconds) if seconds else 0
            print_json({"token": minted, "user": user, "channel": channel, "expire_at": expire_at})
        else:
            typer.echo(minted)


def mint(settings: Settings, user: str, ttl: float, channel: str | None, now: float | None = None) -> str:
    """A token for a user, and perhaps a channel, as the settings want them. Raises `SettingsError` without a key."""
    client = settings.client
    keys: TokenSettings = client.token
    section = "client.token"
    if channel is not None and client.subscription_token.enabled:
        keys, section = client.subscription_token, "client.subscription_token"
    if keys.jwks_public_endpoint:
        raise SettingsError(
            f"{section}.jwks_public_endpoint is set, so that only its issuer can sign tokens: have that do it, or "
            "leave it out where you try things out, and take --dev"
        )
    if not keys.signing_secret:
        name = f"GATEWAY_{section}.hmac_secret_key".upper().replace(".", "__")
        raise SettingsError(
            f"{section}.hmac_secret_key is not set, and tokens are signed with it: set {name}, "
            'for example to the output of "openssl rand -hex 32"; or use --dev'
        )
    claims = {"iss": keys.issuer, "aud": keys.audience, keys.user_id_claim or "sub": user}
    given: dict[str, Any] = {name: value for name, value in claims.items() if value}
    if channel is None:
        return sign_connection(keys.signing_secret, user, ttl, now, **given)
    return sign_subscription(keys.signing_secret, user, channel, ttl, now, **given)
