"""Settings of traces."""

from gateway.config.settings.section import Section


class OpenTelemetrySettings(Section):
    """Traces, by OpenTelemetry. Where they go, `OTEL_…` variables say."""

    enabled: bool = False
    """Make spans; needs `pip install "wsgateway[otel]"`."""
    api: bool = True
    """Of calls of the server API."""
    handlers: bool = True
    """Of what a program's handlers do."""
