"""Calls that publish."""

import logging
from collections.abc import Sequence
from typing import Any

from gateway.apps.base import App
from gateway.core.node import Node
from gateway.errors import BrokerUnavailable
from gateway.web.pusher.attributes import Wanted, attributes, read_info
from gateway.web.pusher.calls import Call
from gateway.web.pusher.events import bad, posted_event, read_batch, read_event, send

log = logging.getLogger(__name__)


async def events(node: Node, call: Call) -> dict[str, Any]:
    """One event, to some channels."""
    posted = read_event(call.body)
    event = posted_event(node, call.app, posted)
    await send(node, [event], call.idempotency_key)
    if not posted.info:
        return {}
    asked = read_info(posted.info)
    told = await _told(node, call.app, [Wanted(name, asked) for name in event.names])
    return {"channels": dict(zip(event.names, told, strict=True))}


async def batch_events(node: Node, call: Call) -> dict[str, Any]:
    """Several events, each to one channel. None is published unless all may be."""
    batch = read_batch(call.body).batch
    most = call.app.settings.max_event_batch_size
    if batch is None or len(batch) > most:
        raise bad(f"batch must be a list of at most {most} events")
    checked = [posted_event(node, call.app, each) for each in batch]
    if any(len(each.names) > 1 for each in checked):
        raise bad("an event of a batch is for one channel")
    await send(node, checked, call.idempotency_key)
    if not any(each.info for each in batch):
        return {}
    asked = zip(checked, batch, strict=True)
    wanted = [Wanted(event.names[0], read_info(posted.info)) for event, posted in asked]
    return {"batch": await _told(node, call.app, wanted)}


async def _told(node: Node, app: App, wanted: Sequence[Wanted]) -> list[dict[str, int]]:
    """What is asked of channels; of none if that cannot be said, for the events are published, and once is enough."""
    try:
        return await attributes(node, app, wanted)
    except BrokerUnavailable as error:
        log.warning("published, without the info that was asked for: %s", error.message)
        return [{} for _ in wanted]
