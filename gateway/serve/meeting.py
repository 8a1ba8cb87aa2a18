"""Where workers find each other, for one of them to tell the metrics of all."""

import logging
import shutil
import tempfile

from gateway.config.settings import Settings

log = logging.getLogger("gateway.serve.meeting")


class MeetingPlace:
    """A directory of this supervisor's workers, old and new alike. It is made when first needed."""

    def __init__(self) -> None:
        self._directory: str | None = None

    def named_in(self, settings: Settings) -> Settings:
        """The settings of a worker, with the directory; as they are, if they have one or want none."""
        prometheus = settings.prometheus
        if not prometheus.enabled or prometheus.directory:
            return settings
        if self._directory is None:
            self._directory = self._make()
        return settings.model_copy(update={"prometheus": prometheus.model_copy(update={"directory": self._directory})})

    def close(self) -> None:
        """Remove it, once the workers have ended."""
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _make(self) -> str:
        try:
            return tempfile.mkdtemp(prefix="gateway-")  # which nobody else may enter
        except OSError as error:
            log.warning(
                "/metrics tells of one worker at a time, for there is no room for a directory: %s; name one with "
                'prometheus.directory, for example "/run/gateway"',
                error,
            )
            return ""
