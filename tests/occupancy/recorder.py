"""Events of channels, written down."""


class Recorder:
    """Satisfies ``OccupancyEvents``."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_occupied(self, channel: str) -> None:
        self.events.append(f"+{channel}")

    def on_vacated(self, channel: str) -> None:
        self.events.append(f"-{channel}")
