"""All official SDKs that the tests have, over each of their transports, in each of their encodings."""

from tests.integration.clients.base import SDK
from tests.integration.clients.go import GoProtobufSDK, GoSDK
from tests.integration.clients.javascript import IN_CHROMIUM, IN_NODE
from tests.integration.clients.python import PythonProtobufSDK, PythonSDK

OUTSIDE_PAGES: list[type[SDK]] = [*IN_NODE, PythonSDK, PythonProtobufSDK, GoSDK, GoProtobufSDK]
EVERY: list[type[SDK]] = [*IN_NODE, *IN_CHROMIUM, *OUTSIDE_PAGES[len(IN_NODE) :]]
