"""npm ``centrifuge``: the clients of all tests in one Node process."""

from tests.integration.clients.driven import DrivenSDK, Line
from tests.node import PACKAGES, NodeProgram

DRIVER = NodeProgram(PACKAGES / "driver.mjs")


class JavaScriptSDK(DrivenSDK):
    name = "javascript"

    async def line(self) -> Line:
        return await DRIVER.connect()


class JavaScriptProtobufSDK(JavaScriptSDK):
    name = "javascript-protobuf"
    protobuf = True


class HTTPStreamSDK(JavaScriptSDK):
    name = "javascript-http_stream"
    transports = ("http_stream",)


class SSESDK(JavaScriptSDK):
    name = "javascript-sse"
    transports = ("sse",)
