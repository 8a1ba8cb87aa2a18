"""npm ``centrifuge``: the clients of all tests in one Node process, or in one page of headless Chromium."""

from functools import cache

from tests.integration.clients.driven import DrivenSDK, Line
from tests.integration.processes import program
from tests.node import PACKAGES, NodeProgram

DRIVER = NodeProgram(PACKAGES / "driver.mjs")


@cache
def chromium() -> NodeProgram:
    """It ends with this process."""
    return NodeProgram(PACKAGES / "chromium.mjs", program("chromium", "chromium"))


class JavaScriptSDK(DrivenSDK):
    name = "javascript"
    library = "npm centrifuge, Node"
    lacks = frozenset()

    async def line(self) -> Line:
        return await DRIVER.connect()


class JavaScriptProtobufSDK(JavaScriptSDK):
    name = "javascript-protobuf"
    protobuf = True


class HTTPStreamSDK(JavaScriptSDK):
    name = "javascript-http_stream"
    transports = ("http_stream",)


class HTTPStreamProtobufSDK(HTTPStreamSDK):
    name = "javascript-http_stream-protobuf"
    protobuf = True


class SSESDK(JavaScriptSDK):
    name = "javascript-sse"
    transports = ("sse",)


IN_NODE: list[type[JavaScriptSDK]] = [
    JavaScriptSDK,
    JavaScriptProtobufSDK,
    HTTPStreamSDK,
    HTTPStreamProtobufSDK,
    SSESDK,
]


class _InChromium(JavaScriptSDK):
    library = "npm centrifuge, Chromium"

    async def line(self) -> Line:
        return await chromium().connect()


def _in_chromium(kind: type[JavaScriptSDK]) -> type[JavaScriptSDK]:
    return type(f"Chromium{kind.__name__}", (_InChromium, kind), {"name": kind.name.replace("javascript", "chromium")})


IN_CHROMIUM = [_in_chromium(kind) for kind in IN_NODE]
