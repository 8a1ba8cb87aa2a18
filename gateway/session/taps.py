"""Taps: where the flight recorder hears what happens on a node. They are in place only while somebody records.

Methods of hub and node are replaced, each by an attribute of the object, and watched sessions are `recorded`. So
nothing asks, as long as nobody records, whether somebody does, but for a client that connects and a command that fails.
"""

from collections.abc import Callable, Iterable
from typing import Any

from gateway.auth.claims import claimed_user
from gateway.brokers.base import NO_EXTRAS, HistoryFilter, PublishOptions
from gateway.channels import Channel
from gateway.core.audience import AudienceKey, Connection, LocalChannel, Subscriber
from gateway.core.excerpt import excerpt
from gateway.core.hub import Hub
from gateway.core.node import Node
from gateway.core.recorder import CLAIMS, CONNECTIONS, Recorder, Subject, Watch
from gateway.errors import Error
from gateway.messages import (
    Announcement,
    ClientInfo,
    ConnectRequest,
    Exclusion,
    Join,
    Leave,
    Position,
    Publication,
    Receipt,
    Request,
)
from gateway.session.life import State
from gateway.session.recorded import name_of, reason_of, record, release
from gateway.session.session import Session

NOBODY = Exclusion()


class Taps:
    """The taps of one node. Satisfies `recorder.Taps` and `recorder.Witness`."""

    def __init__(self, node: Node) -> None:
        self.recorder = Recorder(node.clock, node.wheel, self)
        self._note = self.recorder.note
        self._node = node
        self._hub = node.hub
        self._watched: dict[Connection, tuple[Watch, ...]] = {}
        """Connections that are, for themselves or for their users."""
        self._subscribers: dict[str, set[Subscriber]] = {}
        """Their subscriptions, by channel."""
        self._connecting: dict[Connection, ConnectRequest] = {}
        """Clients of which nobody knows yet whose they are."""

    # — for the recorder —

    def begin(self, watch: Watch) -> None:
        if self._node.witness is None:
            self._place()
        what, name = watch.subject
        if what == "channel":
            text = f"subscribers on this node: {self._hub.subscribers(name)}"
            self._note(watch, "watch", text, channel=name)
        elif what == "user":
            for each in self._hub.of_user(name)[: CONNECTIONS + 1]:
                self._attach(each, watch, "watch")
        elif (connection := self._hub.connections.get(name)) is not None:
            self._attach(connection, watch, "watch")

    def end(self, watch: Watch) -> None:
        for connection in [each for each, watches in self._watched.items() if watch in watches]:
            self._detach(connection, watch)
        if not self.recorder.watches:
            self._remove()

    def _place(self) -> None:
        self._node.witness = self
        self._node.deliver = self._deliver
        for owner, name, tap in self._replaced():
            setattr(owner, name, tap)

    def _remove(self) -> None:
        self._node.witness = None
        self._node.deliver = self._hub.publish
        for owner, name, _ in self._replaced():
            delattr(owner, name)
        self._connecting.clear()

    def _replaced(self) -> Iterable[tuple[object, str, Callable[..., Any]]]:
        for name in ("open", "close", "enter", "leave", "lose", "announce"):
            yield self._hub, name, getattr(self, f"_{name}")
        for name in ("publish", "history"):
            yield self._node, name, getattr(self, f"_{name}")
        yield self._node.publishing, "post", _waits

    def _attach(self, connection: Connection, watch: Watch, kind: str, request: ConnectRequest | None = None) -> None:
        """Record a connection, as far as there is room for one more."""
        who = {"client": connection.client, "user": connection.user}
        if watch.connections >= CONNECTIONS:
            self._note(watch, kind, f"not recorded: there are {CONNECTIONS} other connections", **who)
        elif isinstance(connection, Session):
            watch.connections += 1
            if connection not in self._watched:
                record(connection)
                for each in connection.subscriptions.values():
                    self._subscribers.setdefault(each.channel, set()).add(each)
            self._watched[connection] = (*self._watched.get(connection, ()), watch)
            self._note(watch, kind, _described(connection, request), **who, data=request)

    def _detach(self, connection: Connection, watch: Watch) -> None:
        watch.connections -= 1
        self._watched[connection] = tuple(each for each in self._watched[connection] if each is not watch)
        if not self._watched[connection]:
            del self._watched[connection]
            for each in connection.subscriptions.values():
                self._forget(each)
            if isinstance(connection, Session):
                release(connection)

    def _forget(self, subscriber: Subscriber) -> None:
        if (there := self._subscribers.get(subscriber.channel)) is not None:
            there.discard(subscriber)
            if not there:
                del self._subscribers[subscriber.channel]

    # — for sessions —

    def connecting(self, session: Connection, request: ConnectRequest) -> None:
        if self._watches_users():
            self._connecting[session] = request

    def failed(self, session: Session, request: Request, error: Exception) -> None:
        if isinstance(request, ConnectRequest):
            self._connecting.pop(session, None)
            if self._watches_users() and session not in self._watched:  # else it tells this itself
                self._tell_of_refused(session, request, error)
        elif channel := getattr(request, "channel", ""):
            text, who = f"{name_of(request)} refused: {reason_of(error)}", ClientInfo(session.user, session.client)
            self._tell_channel(channel, "error", text, who, request)

    def _watches_users(self) -> bool:
        return any(subject.what == "user" for subject in self.recorder.watches)

    def _tell_of_refused(self, session: Session, request: ConnectRequest, error: Exception) -> None:
        """A client may not come in. Of one whose token is no good we have its word alone for who it is."""
        user = session.user or claimed_user(request.token, self._node.client.token.user_id_claim)
        watch = self.recorder.watches.get(Subject("user", user))
        if watch is not None and watch.claims < CLAIMS:
            claims = "" if session.user else f"; its token names {user!r}"
            watch.claims += not session.user
            text = f"connect refused: {reason_of(error)}{claims}; {_described(session, request)}"
            if watch.claims == CLAIMS:
                text += "; no more such refusals are told"
            self._note(watch, "error", text, client=session.client, user=session.user, data=request)

    def tell(self, session: Connection, kind: str, text: str, channel: str = "", data: object = None) -> None:
        for watch in self._watched.get(session, ()):
            self._note(watch, kind, text, client=session.client, user=session.user, channel=channel, data=data)

    # — connections —

    def _open(self, connection: Connection) -> None:
        Hub.open(self._hub, connection)
        request = self._connecting.pop(connection, None)
        watch = self.recorder.watches.get(Subject("user", connection.user))
        if watch is not None:
            self._attach(connection, watch, "connect", request)

    def _close(self, connection: Connection) -> None:
        Hub.close(self._hub, connection)
        self._connecting.pop(connection, None)
        if connection in self._watched and isinstance(connection, Session) and connection.state is State.ENDED:
            reason, since = connection.reason, connection.since
            lived = f", after {self._node.clock() - since:.1f} s" if since else ""
            self.tell(connection, "close", f"ended with {reason.code} {reason.reason}{lived}" if reason else "ended")
            for watch in self._watched[connection]:
                self._detach(connection, watch)

    # — publications —

    async def _publish(self, channel: Channel, publication: Publication, extras: PublishOptions = NO_EXTRAS) -> Receipt:
        try:
            receipt = await Node.publish(self._node, channel, publication, extras)
        except Error as error:
            self._tell_channel(channel.name, "error", f"publish failed: {reason_of(error)}", publication.info)
            raise
        text = f"accepted, offset {receipt.offset}; nodes that hear it: {receipt.nodes}"
        self._tell_channel(channel.name, "publish", text, publication.info)
        return receipt

    async def _history(self, channel: Channel, which: HistoryFilter) -> tuple[list[Publication], Position]:
        publications, top = await Node.history(self._node, channel, which)
        self._tell_channel(channel.name, "history", f"{len(publications)} read, the newest has offset {top.offset}")
        return publications, top

    def _deliver(self, name: str, publication: Publication) -> None:
        channel = self._hub.channels.get(name)
        if channel is None:
            return
        readers = self._readers(channel, publication)
        text = _of_publication(publication) if readers or Subject("channel", name) in self.recorder.watches else ""
        self._tell_channel(name, "publication", text, publication.info, publication.data)
        Hub.publish(self._hub, name, publication)
        for reader in readers:
            if _audience(channel, reader) is not None:  # else it has missed something before
                self.tell(reader.connection, "publication", text, name, publication.data)

    def _readers(self, channel: LocalChannel, publication: Publication) -> list[Subscriber]:
        """Subscribers that are watched, and get it unless they have missed something."""
        exclude = publication.exclude or NOBODY
        found: list[Subscriber] = []
        for subscriber in self._subscribers.get(channel.name, ()):
            if subscriber.connection.client in exclude.clients or subscriber.connection.user in exclude.users:
                continue
            if subscriber.tags is not None and not subscriber.tags.passes(publication.tags):
                continue
            key = _audience(channel, subscriber)
            if key is not None and _is_new(publication, key.behind or (channel.position if key.positioned else None)):
                found.append(subscriber)
        return found

    def _lose(self, channel: LocalChannel, keys: Iterable[AudienceKey], before: Position | None = None) -> None:
        keys = list(keys)
        lost = [audience.members for key in keys if (audience := channel.audiences.get(key)) is not None]
        if lost:
            text = f"something is missing before; subscribers who miss it: {sum(map(len, lost))}"
            self._tell_channel(channel.name, "lost", text)
            for subscriber in self._subscribers.get(channel.name, ()):
                if any(subscriber in members for members in lost):
                    self.tell(subscriber.connection, "lost", "something is missing before", channel.name)
        Hub.lose(self._hub, channel, keys, before)

    # — subscriptions —

    def _announce(self, name: str, push: Announcement, exclude: Exclusion | None = None) -> None:
        Hub.announce(self._hub, name, push, exclude)
        if not isinstance(push, Join | Leave):
            return  # a roster's word, which follows from joins and leaves
        kind, who = type(push).__name__.lower(), f"{push.info.user!r} {push.info.client}"
        self._tell_channel(name, kind, who, push.info)
        for subscriber in self._subscribers.get(name, ()):
            if subscriber.joins:
                self.tell(subscriber.connection, "push", f"{kind} of {who}", name)

    def _enter(self, subscriber: Subscriber, position: Position | None, had: Publication | None = None) -> None:
        Hub.enter(self._hub, subscriber, position, had)
        if subscriber.connection in self._watched:
            self._subscribers.setdefault(subscriber.channel, set()).add(subscriber)
        since: Position | None = getattr(subscriber, "since", None)
        text = f"subscribed after offset {position.offset}" if position else "subscribed"
        self._tell_both(subscriber, "subscribe", text + (f", had offset {since.offset}" if since else ""))

    def _leave(self, subscriber: Subscriber) -> None:
        before = self._hub.subscriptions
        Hub.leave(self._hub, subscriber)
        self._forget(subscriber)
        if self._hub.subscriptions < before:
            self._tell_both(subscriber, "unsubscribe", "nothing more is delivered")

    def _tell_both(self, subscriber: Subscriber, kind: str, text: str) -> None:
        """The channel's watch and the connection's."""
        who, name = subscriber.connection, subscriber.channel
        self._tell_channel(name, kind, text, ClientInfo(who.user, who.client))
        self.tell(who, kind, text, name)

    def _tell_channel(
        self, name: str, kind: str, text: str, info: ClientInfo | None = None, data: object = None
    ) -> None:
        watch = self.recorder.watches.get(Subject("channel", name))
        if watch is not None:
            client, user = (info.client, info.user) if info else ("", "")
            self._note(watch, kind, text, client=client, user=user, channel=name, data=data)


def _waits(*_: object) -> bool:
    """In place of `PublishQueue.post`: publishes go by way of the node, whose method tells of them."""
    return False


def _described(session: Session, request: ConnectRequest | None) -> str:
    """Where a client comes from, and what it is."""
    sdk = f"{request.name} {request.version}".strip() if request else ""
    known = (session.address, session.wire.protocol.name, sdk, session.user_agent)
    return f"{session.state.value}, from {', '.join(filter(None, known))}"


def _of_publication(publication: Publication) -> str:
    info = publication.info
    return (
        (f"offset {publication.offset}, " if publication.offset else "")
        + f"{len(publication.data)} bytes"
        + (f" from {info.user!r} {info.client}" if info else "")
        + (f", tags {excerpt(publication.tags)}" if publication.tags else "")
    )


def _audience(channel: LocalChannel, subscriber: Subscriber) -> AudienceKey | None:
    return next((key for key, each in channel.audiences.items() if subscriber in each.members), None)


def _is_new(publication: Publication, at: Position | None) -> bool:
    """Whether it comes behind where somebody stands."""
    return not publication.offset or at is None or at.epoch != publication.epoch or publication.offset > at.offset
