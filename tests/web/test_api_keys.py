"""Several keys of the server API."""

from typing import Any

import httpx
import pytest

from gateway.config.settings import HTTPAPISettings, Settings
from gateway.serve.app import create_app
from gateway.web.api_keys import APIKeys
from tests.serving import on_plain_uvicorn
from tests.web.conftest import running


class Request:
    """As much of one as keys are looked for in."""

    def __init__(self, **headers: str) -> None:
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.query_params: dict[str, str] = {}
        self.scope: dict[str, bytes] = {"query_string": b""}
        self.state = self
        self.api_key: str | None = None


def found(keys: APIKeys, **headers: str) -> str | None:
    request: Any = Request(**headers)
    name = keys.find(request)
    assert request.state.api_key == name
    return name


def test_a_key_is_known_by_its_name() -> None:
    keys = APIKeys(lambda: HTTPAPISettings(key="one", keys={"billing": "two", "jobs": "three"}))
    assert found(keys, x_api_key="one") == "key"
    assert found(keys, x_api_key="two") == "billing"
    assert found(keys, authorization="apikey three") == "jobs"
    assert found(keys, x_api_key="four") is None
    assert found(keys) is None


def test_without_keys_nobody_is_known_and_with_open_doors_nobody_is_asked() -> None:
    assert found(APIKeys(HTTPAPISettings)) is None
    assert found(APIKeys(HTTPAPISettings), x_api_key="") is None
    assert found(APIKeys(lambda: HTTPAPISettings(insecure=True, key="one"))) == ""


def test_other_settings_have_other_keys() -> None:
    settings = HTTPAPISettings(key="one")
    keys = APIKeys(lambda: settings)
    assert found(keys, x_api_key="one") == "key"
    settings = HTTPAPISettings(keys={"next": "two"})
    assert found(keys, x_api_key="one") is None
    assert found(keys, x_api_key="two") == "next"


async def test_another_scheme_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with running({"http_api": {"key": "one"}}) as api:
        assert (await api.post("info", headers={"Authorization": "Bearer one"})).status_code == 401
    assert "its Authorization does not begin with apikey" in caplog.text
    assert "Bearer" not in caplog.text


async def test_a_named_key_opens_the_api() -> None:
    async with running({"http_api": {"keys": {"billing": "two"}}}) as api:
        assert (await api.post("info", headers={"X-API-Key": "two"})).status_code == 200
        assert (await api.post("info", headers={"X-API-Key": "billing"})).status_code == 401


async def test_where_nobody_is_asked_no_page_of_another_origin_calls() -> None:
    strange, own = {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-origin"}
    async with running({"http_api": {"insecure": True}}) as api:
        refused = await api.post("info", headers=strange)
        assert refused.status_code == 403
        assert "set http_api.key" in refused.json()["error"]["message"]
        assert (await api.post("info", headers=own)).status_code == 200
    async with running({"http_api": {"key": "one"}}) as api:  # a page that has the key is no stranger's
        assert (await api.post("info", headers={"X-API-Key": "one", **strange})).status_code == 200


@pytest.mark.parametrize("query", ["api_key=two", "%61pi_key=two&x=1", "x=1&api_key=wrong-two"])
@pytest.mark.parametrize("method", ["/publish", "/batch", ""])
async def test_a_key_in_the_query_is_in_no_log(query: str, method: str, caplog: pytest.LogCaptureFixture) -> None:
    """Servers write the query down with their line of each request; ours does not."""
    settings = Settings.model_validate({"http_api": {"key": "two"}})
    caplog.set_level("DEBUG")
    async with on_plain_uvicorn(create_app(settings), settings) as port, httpx.AsyncClient() as http:
        answer = await http.post(f"http://127.0.0.1:{port}/api{method}?{query}", content=b"{}")
    assert answer.status_code == (401 if "wrong" in query else 200)
    lines = [each.getMessage() for each in caplog.records if not each.name.startswith("http")]
    assert [line for line in lines if f'"POST /api{method}?api_key=***' in line]
    assert [line for line in lines if "two" in line] == []
