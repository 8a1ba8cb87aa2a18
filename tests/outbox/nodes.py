"""Nodes that share an outbox, and what would be told of it."""

import json
from collections.abc import Sequence
from typing import Any

from gateway.outbox.base import Event, Outbox, Place


async def due(outbox: Outbox, app: str = "9001", limit: int = 1000) -> list[Event]:
    return [*(await outbox.waiting(app, limit)).due]


async def drain(outbox: Outbox, app: str = "9001") -> list[Event]:
    """Everything that is due, which is told by that."""
    events = await due(outbox, app)
    await outbox.sort(app, [(event, ["all"]) for event in events])
    told = await outbox.of(app, "all", 1000)
    await outbox.settle(app, "all", told)
    return told


def said(events: Sequence[Event]) -> list[str]:
    """Events in short: ``+news`` occupied, ``-news`` vacated, ``+news/17`` added, ``-news/17`` removed."""
    return [_said(json.loads(event.body)) for event in events]


def _said(body: dict[str, Any]) -> str:
    sign = {"channel_occupied": "+", "channel_vacated": "-", "member_added": "+", "member_removed": "-"}
    if (name := body["name"]) in sign:
        return f"{sign[name]}{body['channel']}" + (f"/{body['user_id']}" if "user_id" in body else "")
    return f"{name} {body['channel']}" + (f" {body['subscription_count']}" if "subscription_count" in body else "")


def place(channel: str, user: str = "", app: str = "9001") -> Place:
    return Place(app, channel, user)
