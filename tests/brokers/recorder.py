"""Events of a broker, written down."""

from gateway.messages import ClientInfo, Publication


class Recorder:
    """Satisfies ``BrokerEvents``."""

    def __init__(self) -> None:
        self.publications: list[tuple[str, Publication]] = []
        self.joins: list[tuple[str, ClientInfo]] = []
        self.leaves: list[tuple[str, ClientInfo]] = []
        self.controls: list[bytes] = []
        self.gaps = 0

    def on_publication(self, channel: str, publication: Publication) -> None:
        self.publications.append((channel, publication))

    def on_join(self, channel: str, info: ClientInfo) -> None:
        self.joins.append((channel, info))

    def on_leave(self, channel: str, info: ClientInfo) -> None:
        self.leaves.append((channel, info))

    def on_control(self, data: bytes) -> None:
        self.controls.append(data)

    def on_gap(self) -> None:
        self.gaps += 1

    @property
    def texts(self) -> list[str]:
        return [publication.data.decode(errors="replace") for _, publication in self.publications]
