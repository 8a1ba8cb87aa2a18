"""How clients say who they are: FastAPI's security schemes as AsyncAPI 3.0 describes them."""

from typing import Any
from urllib.parse import urljoin

from fastapi.encoders import jsonable_encoder
from fastapi.security.base import SecurityBase

Scheme = dict[str, Any]

TOKEN: Scheme = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "Sent as `token` of the connect command; applications may read cookies or headers instead.",
}
"""A token that the gateway verifies by itself, or that the program looks at in a way that nobody can know."""


def described(scheme: SecurityBase | None, root: str) -> Scheme:
    """One of a contract's. ``root`` is the address of the application: relative URLs are no use here."""
    if scheme is None:
        return TOKEN
    part: Scheme = jsonable_encoder(scheme.model, by_alias=True, exclude_none=True)
    if part["type"] == "apiKey":
        part["type"] = "httpApiKey"
    flows = part.get("flows", {}).values()
    for flow in flows:
        flow["availableScopes"] = flow.pop("scopes", {})
    for each in (part, *flows):
        each |= {key: urljoin(root, url) for key, url in each.items() if key.endswith("Url")}
    return part
