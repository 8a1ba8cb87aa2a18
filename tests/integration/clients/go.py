"""Go's ``centrifuge-go``: many clients in one program, made of ``sdk/go`` and driven over its standard input."""

from tests.integration.clients.javascript import DIRECTORY, DrivenSDK

DRIVER = DIRECTORY / "go/bin/driver"


class GoSDK(DrivenSDK):
    name = "go-protobuf"
    protobuf = True

    def command(self) -> list[str]:
        if not DRIVER.exists():
            raise RuntimeError("the tests need a program in Go: bash tests/run --prepare builds it")
        return [str(DRIVER)]
