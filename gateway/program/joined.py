"""A program and backends that decide together: the program's handlers come first."""

from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any

from gateway.config.backends import CHANNEL_EVENTS
from gateway.config.settings import Settings
from gateway.messages import Payload, RPCRequest
from gateway.program.routes import events
from gateway.program.routes.program import Program
from gateway.session import Application, Session


class Joined:
    """Satisfies `session.application.Application`; all else that is asked of it is the program's."""

    def __init__(self, program: Any, proxies: Application[Session]) -> None:
        self._program = program
        self._proxies = proxies
        self.connect = program.connect or proxies.connect
        self.judges_tokens = program.connect is not None
        self.refresh = program.refresh
        self.renew = None if program.refresh else proxies.renew
        self.disconnect = program.disconnect
        self.headers = proxies.headers
        self.rpc = self._call if program.rpc and proxies.rpc else (program.rpc or proxies.rpc)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._program, name)

    async def _call(self, session: Session, request: RPCRequest) -> Payload | None:
        """By the program, if it has the method."""
        asked: Any = self._program if request.method in self._program.procedures else self._proxies
        answer: Payload | None = await asked.rpc(session, request)
        return answer


def join(program: Any, proxies: Application[Session] | None) -> Any:
    """Who decides; None for nobody."""
    return Joined(program, proxies) if program and proxies else program or proxies


def find_unasked(settings: Settings, program: Program) -> Iterator[str]:
    """Backends that the settings ask, and that are not, since the program decides: what an operator is to know."""
    client = settings.client.proxy
    for proxy, name, event in (
        (client.connect, "connect", events.CONNECT.name),
        (client.refresh, "refresh", events.REFRESH.name),
    ):
        if proxy.enabled and event in program.handlers:
            yield f"client.proxy.{name} is not asked, for the program has an {event}; take one of them away"
    channel = settings.channel
    for namespace in channel.namespaces:
        routes = [each.pattern.text for each in program.channels]
        prefix = namespace.name + channel.namespace_boundary
        taken = [text for text in routes if text.startswith(prefix)]
        switches = [f"{option}_proxy_enabled" for option in CHANNEL_EVENTS.values()]
        if taken and any(attrgetter(switch)(namespace) for switch in switches):
            yield (
                f'the backends of the namespace "{namespace.name}" are not asked about {", ".join(taken)}: these '
                "channels are the program's, whose handlers and options decide; take one of them away"
            )
    yield from _unasked_methods(settings, program.procedures)


def _unasked_methods(settings: Settings, methods: Iterable[str]) -> Iterator[str]:
    rpc = settings.rpc
    asking = {each.name for each in rpc.namespaces if each.proxy_enabled}
    taken = sorted(each for each in methods if each.partition(rpc.namespace_boundary)[0] in asking)
    if taken:
        yield f"rpc.proxy is not asked about the methods {', '.join(taken)}, which the program has"
