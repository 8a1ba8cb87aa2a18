"""No example has a secret that everybody knows."""

import runpy

import pytest


@pytest.mark.parametrize(
    ("example", "variable"),
    [
        ("jwt_login", "GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY"),
        ("notifications", "ADMIN_KEY"),
        ("oauth2", "SECRET"),
        ("signed_token", "SECRET"),
        ("two_sdks", "SECRET"),
    ],
)
def test_without_one_it_says_what_to_set(example: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(SystemExit, match=f"set {variable}, the same on all instances"):
        runpy.run_module(f"examples.{example}")
