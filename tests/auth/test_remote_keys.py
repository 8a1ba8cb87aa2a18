"""Keys that issuers publish, as they come, go and are away. The issuers are real servers on ports of their own."""

import asyncio
import logging
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.auth import fetching, remote_keys
from gateway.auth.fetching import LARGEST
from gateway.auth.jwks import read_key_set
from gateway.auth.remote_keys import BURST, LASTS, PAUSE
from gateway.auth.tokens import TokenInvalid, TokenVerifier
from gateway.config.settings import ClientSettings, SubscriptionTokenSettings, TokenSettings
from gateway.errors import KeysUnavailable
from tests.auth.issuer import ED25519, P256, RSA, RSA_OTHER, Issuer, issuing, jwk, signed
from tests.certificates import Authority
from tests.waiting import settle, until


class Case:
    """A verifier, and an issuer that publishes a key for RS256 called ``old``."""

    def __init__(self, issuer: Issuer, **token: Any) -> None:
        self.issuer = issuer
        self.now = 1000.0
        self.fetches: Counter[bool] = Counter()
        self.client = ClientSettings(token=TokenSettings(**{"jwks_public_endpoint": issuer.url} | token))
        self.tokens = TokenVerifier(self.client, lambda: 1_800_000_000, lambda: self.now, self.fetches)

    async def user(self, token: str) -> str:
        """Whose token it is, as a session finds out."""
        keys = self.tokens.connection_keys
        assert keys is not None
        if not keys.has(token):
            await keys.fetch(token)
        return self.tokens.connection(token).user

    async def refused(self, token: str) -> str:
        with pytest.raises(TokenInvalid) as refused:
            await self.user(token)
        return f"{refused.value.claim}: {refused.value}"

    async def unavailable(self, token: str) -> str:
        with pytest.raises(KeysUnavailable) as away:
            await self.user(token)
        assert (away.value.code, away.value.temporary) == (100, True)
        return away.value.problem.partition(": ")[2]


@pytest.fixture
async def case() -> AsyncIterator[Case]:
    async with issuing(jwk(RSA, "old")) as issuer:
        case = Case(issuer)
        yield case
        case.tokens.close()


OLD = signed(RSA, "RS256", "old")
NEW = signed(P256, "ES256", "new")


async def test_a_key_is_fetched_when_a_token_needs_it_and_kept(case: Case) -> None:
    assert case.tokens.has_keys
    assert case.issuer.paths == []
    for _ in range(3):
        assert await case.user(OLD) == "ann"
    assert case.issuer.paths == ["/jwks"]
    assert case.tokens.connection(OLD).key == "old"
    assert case.fetches == {True: 1}


async def test_what_takes_time_is_done_beside_the_event_loop(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def beside(work: Callable[..., Any]) -> Callable[..., Any]:
        def tell(*arguments: Any) -> Any:
            threads.append(threading.current_thread())
            return work(*arguments)

        return tell

    monkeypatch.setattr(remote_keys, "read_key_set", beside(read_key_set))
    monkeypatch.setattr(httpx, "create_ssl_context", beside(httpx.create_ssl_context))
    assert await case.user(OLD) == "ann"
    assert len(threads) == 2
    assert threading.main_thread() not in threads


async def test_one_fetch_serves_all_who_ask_in_a_tick(case: Case) -> None:
    users = await asyncio.gather(*(case.user(OLD) for _ in range(2000)))
    assert users == ["ann"] * 2000
    assert len(case.issuer.paths) == 1


async def test_who_comes_while_one_is_under_way_waits_for_it(case: Case) -> None:
    case.issuer.silent.set()
    first = asyncio.create_task(case.user(OLD))
    await until(lambda: case.issuer.paths)
    second = asyncio.create_task(case.user(OLD))
    await settle()
    case.issuer.go_on()
    assert [await first, await second] == ["ann", "ann"]
    assert len(case.issuer.paths) == 1


async def test_one_who_leaves_takes_the_keys_from_nobody(case: Case) -> None:
    case.issuer.silent.set()
    tasks = [asyncio.create_task(case.user(OLD)) for _ in range(3)]
    await until(lambda: case.issuer.paths)
    tasks[0].cancel()
    await settle()
    case.issuer.go_on()
    assert await asyncio.gather(*tasks[1:]) == ["ann", "ann"]


async def test_a_new_key_is_fetched(case: Case) -> None:
    assert await case.user(OLD) == "ann"
    case.issuer.publish(jwk(RSA, "old"), jwk(P256, "new"))
    assert await case.user(NEW) == "ann"
    assert await case.user(OLD) == "ann"
    assert len(case.issuer.paths) == 2


async def test_who_asks_while_an_older_answer_is_under_way_gets_a_newer_one(case: Case) -> None:
    case.issuer.silent.set()
    first = asyncio.create_task(case.user(OLD))
    await until(lambda: case.issuer.paths)
    second = asyncio.create_task(case.user(NEW))  # of a key that the answer under way does not have
    await settle()
    case.issuer.go_on()
    assert await first == "ann"
    case.issuer.publish(jwk(RSA, "old"), jwk(P256, "new"))
    assert await second == "ann"


async def test_a_removed_key_ends_with_the_next_fetch(case: Case) -> None:
    assert await case.user(OLD) == "ann"
    case.issuer.publish(jwk(P256, "new"))
    assert await case.user(OLD) == "ann"
    assert await case.user(NEW) == "ann"
    text = "kid is 'old', and there is no such key at client.token.jwks_public_endpoint"
    assert await case.refused(OLD) == f"key: {text}"


async def test_a_removed_key_ends_within_the_hour(case: Case) -> None:
    assert await case.user(OLD) == "ann"
    case.issuer.publish()
    case.now += LASTS - 1
    assert await case.user(OLD) == "ann"
    case.now += 1
    assert (await case.refused(OLD)).startswith("key: kid is 'old'")


async def test_another_key_of_the_same_name_takes_its_place(case: Case) -> None:
    assert await case.user(OLD) == "ann"
    case.issuer.publish(jwk(RSA_OTHER, "old"))
    case.now += LASTS
    assert (await case.refused(OLD)).startswith("signature: ")
    assert await case.user(signed(RSA_OTHER, "RS256", "old")) == "ann"


async def test_an_unknown_key_is_looked_for_and_refused(case: Case) -> None:
    for _ in range(2):
        assert (await case.refused(NEW)).startswith("key: kid is 'new'")
    assert len(case.issuer.paths) == 2


async def test_made_up_names_cause_few_fetches(case: Case) -> None:
    for number in range(BURST):
        await case.refused(signed(P256, "ES256", f"made up {number}"))
    for number in range(100):
        assert await case.unavailable(signed(P256, "ES256", f"made up again {number}")) == ""
    assert len(case.issuer.paths) == BURST
    assert await case.user(OLD) == "ann"
    case.now += PAUSE
    await case.refused(NEW)
    await case.unavailable(NEW)
    assert len(case.issuer.paths) == BURST + 1


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (signed(RSA, "RS256", None), "key: it has no kid, and there is no such key"),
        (signed(RSA, "RS256", ""), "key: it has no kid"),
        ("nonsense", "format: "),
        ("bm9uc2Vuc2U.e30.x", "format: "),
        (signed(RSA, "RS256", "old", info="x" * 9000), "size: "),
    ],
)
async def test_what_names_no_key_causes_no_fetch(case: Case, token: str, reason: str) -> None:
    assert (await case.refused(token)).startswith(reason)
    assert case.issuer.paths == []


async def test_the_algorithm_is_the_keys(case: Case) -> None:
    forged = signed("the public key, or anything else that everybody knows", "HS256", "old")
    assert await case.refused(forged) == "alg: alg is 'HS256', and the key 'old' is for RS256, RS384, RS512"
    assert (await case.refused(signed(None, "none", "old"))).startswith("alg: alg is 'none'")
    assert (await case.refused(signed(RSA_OTHER, "RS256", "old"))).startswith("signature: ")


async def test_keys_in_the_settings_are_not_used() -> None:
    secret = "a secret of more than thirty-two bytes, as all should be"
    async with issuing(jwk(ED25519, "k")) as issuer:
        case = Case(issuer, hmac_secret_key=secret)
        assert await case.user(signed(ED25519, "EdDSA")) == "ann"
        await case.refused(signed(secret, "HS256"))
        await case.refused(signed(secret, "HS256", None))


# — away —


async def test_while_the_issuer_is_away_known_keys_go_on(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    assert await case.user(OLD) == "ann"
    case.issuer.fail()
    case.now += LASTS
    assert await case.user(OLD) == "ann"
    assert await case.unavailable(NEW) == "HTTP 503 Service Unavailable"
    asked = len(case.issuer.paths)
    case.now += LASTS * 100
    assert await case.user(OLD) == "ann", "nobody waits for a server that is known to be away"
    assert len(case.issuer.paths) == asked
    condition = case.tokens.condition()
    assert condition is not None
    assert condition.reason == "jwks_away"
    assert condition.detail == f"client.token: {case.issuer.url}: HTTP 503 Service Unavailable"
    lines = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(lines) == 1
    assert lines[0].startswith(f"client.token: no keys from {case.issuer.url}: HTTP 503 Service Unavailable; tokens")


async def test_secrets_of_an_address_are_told_nobody(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    url = case.issuer.url.replace("http://", "http://ann:pa55@") + "?key=s3cret"
    own = Case(case.issuer, jwks_public_endpoint=url)
    case.issuer.fail()
    told = await own.unavailable(OLD)
    condition = own.tokens.condition()
    assert condition is not None
    assert condition.detail.endswith("@" + case.issuer.url.removeprefix("http://") + ": " + told)
    assert not [secret for secret in ("pa55", "s3cret") if secret in condition.detail + caplog.text]
    assert case.issuer.paths[0] == "/jwks?key=s3cret", "but to the issuer"
    own.tokens.close()


async def test_it_is_tried_again_by_itself(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_keys, "PAUSE", 0.01)
    case.issuer.fail()
    await case.unavailable(OLD)
    case.issuer.publish(jwk(RSA, "old"))
    await until(lambda: case.tokens.condition() is None)
    asked = len(case.issuer.paths)
    assert await case.user(OLD) == "ann"
    assert len(case.issuer.paths) == asked


async def test_a_second_try_hides_a_hiccup(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch, failures = fetching.fetch, ["once"]

    async def stumbling(url: str) -> bytes:
        if failures:
            raise fetching.FetchFailed(failures.pop())
        return await fetch(url)

    monkeypatch.setattr(remote_keys, "fetch", stumbling)
    assert await case.user(OLD) == "ann"
    assert case.fetches == {True: 1}


Break = Callable[[Case], None]

FAILURES: dict[str, tuple[Break, str]] = {
    "not there": (lambda case: case.issuer.fail("404 Not Found"), "HTTP 404 Not Found"),
    "no set of keys": (lambda case: setattr(case.issuer, "body", b"<html>"), "is no set of keys (JWKS)"),
    "too large": (lambda case: setattr(case.issuer, "body", b" " * (LARGEST + 1)), f"larger than {LARGEST} bytes"),
    "compressed": (
        lambda case: case.issuer.headers.update({"Content-Encoding": "gzip"}),
        "it is compressed, though that was not asked for",
    ),
    "a circle of redirects": (lambda case: case.issuer.fail("302 Found", Location="/x"), "more than 3 redirects"),
    "to nowhere": (
        lambda case: case.issuer.fail("302 Found", Location="ftp://x/"),
        "Request URL has an unsupported protocol 'ftp://'.",
    ),
}


@pytest.mark.parametrize(("fail", "problem"), FAILURES.values(), ids=FAILURES)
async def test_what_may_be_wrong_with_an_answer(case: Case, fail: Break, problem: str) -> None:
    fail(case)
    assert await case.unavailable(OLD) == problem
    assert case.fetches == {False: 1}


async def test_redirects_are_followed(case: Case) -> None:
    async with issuing(jwk(P256, "new")) as elsewhere:
        case.issuer.fail("302 Found", Location=elsewhere.url)
        assert await case.user(NEW) == "ann"


async def test_nobody_listens(case: Case) -> None:
    case = Case(Issuer(), jwks_public_endpoint="http://127.0.0.1:1/jwks")
    assert "connection attempts failed" in await case.unavailable(OLD)
    case.tokens.close()


async def test_a_server_that_says_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "WITHIN", 0.2)
    case.issuer.silent.set()
    assert await case.unavailable(OLD) == "no answer within 0.2 s"


async def test_the_proxy_of_the_environment(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """As operators expect it of what goes out to the Internet."""
    async with issuing(jwk(RSA, "old")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert await case.user(OLD) == "ann"
        assert (proxy.paths, case.issuer.paths) == ([case.issuer.url], [])
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        case.now += LASTS
        await case.tokens.connection_keys.fetch(OLD)  # type: ignore[union-attr]  # there is an endpoint
        assert (proxy.paths, case.issuer.paths) == ([case.issuer.url], ["/jwks"])


@pytest.mark.parametrize(
    ("proxy", "problem"),
    [
        ("socks5://127.0.0.1:1", "Using SOCKS proxy, but the 'socksio' package is not installed"),
        ("ftp://ann:secret@127.0.0.1:1", "Unknown scheme for proxy URL"),
        ("http://ann:secret@127.0.0.1:1", "All connection attempts failed"),
    ],
)
async def test_a_proxy_that_is_none(case: Case, monkeypatch: pytest.MonkeyPatch, proxy: str, problem: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    told = await case.unavailable(OLD)
    assert problem in told
    assert "secret" not in told


# — TLS —


@pytest.fixture
def secure(tmp_path: Path) -> tuple[Authority, Issuer, AbstractAsyncContextManager[Issuer]]:
    authority, issuer = Authority(tmp_path), Issuer()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("issuer", "127.0.0.1"))
    issuer.publish(jwk(RSA, "old"))
    return authority, issuer, issuer.serve(ssl=context)


async def test_certificates_are_verified(secure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, issuer, serving = secure
    async with serving:
        case = Case(issuer, jwks_public_endpoint=issuer.url.replace("http:", "https:"))
        assert "CERTIFICATE_VERIFY_FAILED" in await case.unavailable(OLD)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        assert await case.user(OLD) == "ann"
        async with issuing(jwk(RSA, "old")) as plain:
            issuer.fail("302 Found", Location=plain.url)
            assert await case.unavailable(NEW) == "it sends to an address without TLS"
            assert plain.paths == []
        case.tokens.close()


# — several —


async def test_each_issuer_has_keys_of_its_own() -> None:
    async with issuing(jwk(RSA, "k")) as issuer:
        pattern = "^https://(?P<tenant>one|two)$"
        case = Case(issuer, jwks_public_endpoint=issuer.url + "/{{tenant}}", issuer_regex=pattern)
        one, two = (signed(RSA, "RS256", iss=f"https://{name}") for name in ("one", "two"))
        assert await case.user(one) == "ann"
        issuer.publish(jwk(RSA_OTHER, "k"))
        assert (await case.refused(two)).startswith("signature: "), "a name says nothing of other issuers' keys"
        assert await case.user(signed(RSA_OTHER, "RS256", iss="https://two")) == "ann"
        assert await case.user(one) == "ann"
        assert (await case.refused(signed(RSA, "RS256", iss="https://three"))).startswith(
            "format: 'its issuer or audience"
        )
        assert issuer.paths == ["/jwks/one", "/jwks/two"]


async def test_subscription_tokens_may_have_an_endpoint_of_their_own(case: Case) -> None:
    async with issuing(jwk(P256, "new")) as other:
        own = SubscriptionTokenSettings(enabled=True, jwks_public_endpoint=other.url)
        tokens = TokenVerifier(case.client.model_copy(update={"subscription_token": own}))
        connection, subscription = tokens.connection_keys, tokens.subscription_keys
        assert connection is not None
        assert subscription is not None
        token = signed(P256, "ES256", "new", channel="news")
        assert connection.has(token) is subscription.has(token) is False
        await subscription.fetch(token)
        assert tokens.subscription(token).channel == "news"
        assert case.issuer.paths == []
    shared = TokenVerifier(case.client)
    assert shared.subscription_keys is shared.connection_keys


# — reloading —


async def test_a_reload_has_the_keys_fetched_anew(case: Case) -> None:
    assert await case.user(OLD) == "ann"
    case.issuer.publish(jwk(P256, "new"))
    case.tokens.reload(case.client.model_copy(update={"token": case.client.token.model_copy(update={"issuer": ""})}))
    case.tokens.fetch_keys()
    assert (await case.refused(OLD)).startswith("key: ")
    assert await case.user(NEW) == "ann"
    assert len(case.issuer.paths) == 2


async def test_a_reload_while_the_issuer_is_away_takes_no_keys_away(case: Case) -> None:
    assert await case.user(OLD) == "ann"
    case.issuer.fail()
    case.tokens.reload(case.client)
    case.tokens.fetch_keys()
    assert await case.user(OLD) == "ann"


async def test_another_endpoint_has_other_keys(case: Case) -> None:
    assert await case.user(OLD) == "ann"
    async with issuing(jwk(P256, "new")) as other:
        case.tokens.reload(ClientSettings(token=TokenSettings(jwks_public_endpoint=other.url)))
        assert await case.user(NEW) == "ann"
        await case.refused(OLD)
    case.tokens.reload(ClientSettings())
    assert not case.tokens.fetches_keys
    assert not case.tokens.has_keys


async def test_nothing_is_fetched_that_nobody_looks_at(case: Case) -> None:
    case.tokens.reload(case.client.model_copy(update={"insecure_skip_token_signature_verify": True}))
    assert case.tokens.connection_keys is None
    assert case.tokens.connection(NEW).user == "ann"


def retry(case: Case) -> asyncio.TimerHandle:
    """The timer that has a failed fetch tried again."""
    keys = case.tokens.connection_keys
    assert keys is not None
    [published] = keys._sets.values()
    assert published._retry is not None
    return published._retry


async def test_nothing_goes_on_after_the_end(case: Case) -> None:
    case.issuer.fail()
    await case.unavailable(OLD)
    case.issuer.silent.set()
    asked = len(case.issuer.paths)
    waiting = asyncio.create_task(case.unavailable(OLD))
    await until(lambda: len(case.issuer.paths) > asked)
    case.tokens.close()
    assert await waiting in ("", "the fetch was broken off")
    assert await case.unavailable(OLD) in ("", "the fetch was broken off")
    assert retry(case).cancelled()
    assert len(case.issuer.paths) == asked + 1


async def test_the_end_before_a_fetch_has_begun(case: Case) -> None:
    waiting = asyncio.create_task(case.unavailable(OLD))
    await asyncio.sleep(0)
    case.tokens.close()
    assert await waiting == ""
    assert case.issuer.paths == []


async def test_keys_that_are_not_wanted_any_more_are_not_fetched(case: Case) -> None:
    case.issuer.fail()
    await case.unavailable(OLD)
    before = retry(case)
    case.tokens.reload(case.client)
    assert not before.cancelled()
    case.tokens.reload(ClientSettings())
    assert before.cancelled()


async def test_with_what_has_failed_nobody_is_waited_for_at_the_end(case: Case) -> None:
    case.issuer.fail()
    await case.unavailable(OLD)
    assert not retry(case).cancelled()
    case.tokens.close()
    assert retry(case).cancelled()
