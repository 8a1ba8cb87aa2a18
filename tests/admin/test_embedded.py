"""The page in an application of one's own, at any prefix."""

import httpx
from fastapi import FastAPI

from gateway import Gateway
from tests.admin.ground import PASSWORD


async def test_it_comes_with_the_router_wherever_that_is() -> None:
    gateway = Gateway(admin={"enabled": True, "password": PASSWORD})
    app = FastAPI()
    gateway.run_in(app)
    app.include_router(gateway.router, prefix="/live/v1")
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://shop.example") as http,
    ):
        assert (await http.get("/admin/")).status_code == 404
        assert (await http.get("/live/v1/admin")).headers["location"] == "admin/"
        assert (await http.get("/live/v1/admin/")).status_code == 200
        token = (await http.post("/live/v1/admin/auth", json={"password": PASSWORD})).json()["token"]
        headers = {"Authorization": f"Bearer {token}"}
        info = await http.post("/live/v1/admin/api/info", json={}, headers=headers)
        assert [node["uid"] for node in info.json()["result"]["nodes"]] == [gateway.node.uid]
        assert "admin" not in (await http.get("/openapi.json")).text
