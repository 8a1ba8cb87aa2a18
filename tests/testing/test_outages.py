"""A broker that goes away, and comes back."""

from typing import Any

import pytest

from gateway import BrokerUnavailable
from gateway.testing import Kit, Late, Refused
from tests.testing.chat import create_app


async def test_a_broker_that_is_killed() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("chat:lobby")
        kit.broker.kill()
        assert not kit.gateway.node.broker.health().ok
        with pytest.raises(BrokerUnavailable):
            await kit.gateway.publish("chat:lobby", {"text": "lost"})
        with pytest.raises(BrokerUnavailable):
            await kit.gateway.presence("chat:lobby")
        with pytest.raises(Refused) as refused:
            await ann.publish("chat:lobby", {"text": "lost, too"})
        assert refused.value.temporary
        await room.nothing()
        kit.broker.restore()
        assert kit.gateway.node.broker.health().ok
        await ann.publish("chat:lobby", {"text": "again"})
        assert (await room.next()).data == {"text": "AGAIN"}


async def test_a_node_that_loses_the_broker_while_others_have_it() -> None:
    async with Kit(create_app, nodes=2) as kit:
        ann, bob = await kit.connect(), await kit.connect(node=1)
        here, there = await ann.subscribe("chat:lobby"), await bob.subscribe("chat:lobby")
        kit.broker.kill(node=0)
        await bob.publish("chat:lobby", {"text": "missed"})
        await there.next()
        await here.nothing()
        kit.broker.restore(node=0)
        assert await here.resubscribed()
        publication = await here.next()
        assert (publication.data, publication.recovered) == ({"text": "MISSED"}, True)
        await bob.publish("chat:lobby", {"text": "live"})
        assert not (await here.next()).recovered


async def test_a_deaf_node() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("chat:lobby")
        kit.broker.deafen()
        assert kit.gateway.node.broker.health().deaf
        await ann.publish("chat:lobby", {"text": "missed"})
        await room.nothing()
        kit.broker.restore()
        assert await room.resubscribed()
        assert (await room.next()).data == {"text": "MISSED"}
        kit.broker.restore()  # again does nothing
        await room.nothing()


async def test_a_subscription_that_cannot_be_made_again() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("chat:lobby")
        ann.hear('{"push":{"channel":"chat:lobby","unsubscribe":{"code":2502,"reason":"state invalidated"}}}')
        with pytest.raises(Refused, match="105 already subscribed"):
            await room.next()


async def test_an_outage_in_fakeredis(fake_redis_url: str) -> None:
    async with Kit(create_app, nodes=2, redis_url=fake_redis_url) as kit:
        ann, bob = await kit.connect(), await kit.connect(node=1)
        here = await ann.subscribe("chat:lobby")
        await here.joined()
        kit.broker.kill(node=0)
        await (await bob.subscribe("chat:lobby")).joined()
        await bob.publish("chat:lobby", {"text": "missed"})
        with pytest.raises(Late):
            await here.joined(within=0.05)
        kit.broker.restore()
        assert await here.resubscribed()
        assert (await here.next()).data == {"text": "MISSED"}


async def test_a_broker_that_answers_but_is_silent() -> None:
    async with Kit(create_app(), deadline=0.05) as kit:
        room = await (await kit.connect()).subscribe("plain:x")
        kit.gateway.node.cluster.listeners = _Deaf()  # so that the node cannot hear itself
        with pytest.raises(Late, match="the broker does not deliver"):
            await room.nothing()


class _Deaf(dict[str, Any]):
    def get(self, *_: object) -> None:
        return None
