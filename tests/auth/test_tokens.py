import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt import PyJWTError

from gateway.auth.claims import MAX_TOKEN_LENGTH, header
from gateway.auth.keys import HEADERS, BoundAlgorithm, Keyring, configured
from gateway.auth.tokens import (
    ConnectionToken,
    Grant,
    Override,
    SubscriptionToken,
    TokenExpired,
    TokenInvalid,
    TokenVerifier,
    sign_connection,
    sign_subscription,
)
from gateway.config.settings import ChannelOptions, ClientSettings, SubscriptionTokenSettings, TokenSettings
from gateway.errors import SettingsError
from gateway.messages import Payload, opaque

SECRET = "a secret of more than thirty-two bytes, as all should be"
OTHER = "another secret of more than thirty-two bytes, for comparison"
KEY = "hmac_secret_key"
"""What its setting is called: so is a key that has no name of its own."""
NOW = 1_800_000_000


def verifier(clock: Callable[[], float] = lambda: NOW, **token: Any) -> TokenVerifier:
    return TokenVerifier(ClientSettings(token=TokenSettings(**({"hmac_secret_key": SECRET} | token))), clock)


def signed(secret: str = SECRET, **claims: Any) -> str:
    return sign_connection(secret, claims.pop("sub", "alice"), now=NOW, **claims)


def raw(header: bytes, payload: bytes, signature: bytes = b"x") -> str:
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (header, payload, signature))


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


RSA = rsa.generate_private_key(65537, 2048)
CURVES: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
EC = {name: ec.generate_private_key(curve) for name, curve in CURVES.items()}

# — connection tokens —


def test_tokens_of_the_protocol_description() -> None:
    tokens = TokenVerifier(ClientSettings(token=TokenSettings(hmac_secret_key="example-key")))
    connection = (
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0"
        "._CbNtuFdm8s3eQNJQ2I-znVMJFdq2wdPypku56itngw"
    )
    subscription = (
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSIsImNoYW5uZWwiOiIkZGVzazo3IiwiZXhwIjo0MTAyNDQ0"
        "ODAwfQ.ypTT3Pd3MPsG3p9AP_GNzOtzBpw4zSw_oFK5b3yAYOk"
    )
    assert tokens.connection(connection) == ConnectionToken("alice", 4102444800, key=KEY)
    assert tokens.subscription(subscription) == SubscriptionToken("alice", "$desk:7", "", 4102444800, key=KEY)


def test_a_connection_token_with_everything() -> None:
    token = signed(
        ttl=60,
        info={"name": "Al\nice"},
        meta={"plan": 1},
        subs={
            "a": {"info": [1, 2], "b64data": base64.b64encode(b' {"x": 1.50}\n').decode()},
            "b": {"override": {"presence": {"value": True}, "force_recovery": {"value": False}}},
            "c": None,
        },
        channels=["ignored"],
    )
    found = verifier().connection(token)
    assert (found.user, found.expire_at) == ("alice", NOW + 60)
    assert (found.info, found.meta) == (b'{"name":"Al\\nice"}', b'{"plan":1}')
    assert found.subs == {
        "a": Grant(Payload(b"[1,2]"), Payload(b'{"x":1.50}')),
        "b": Grant(override=Override(presence=True, force_recovery=False)),
        "c": Grant(),
    }


def test_channels_without_options() -> None:
    assert verifier().connection(signed(channels=["a", "b"])).subs == {"a": Grant(), "b": Grant()}
    assert verifier().connection(signed(channels=None, subs=None, info=None)) == ConnectionToken("alice", key=KEY)


def test_payloads_keep_to_one_line_since_frames_are_split_at_line_ends() -> None:
    payload = b'{"sub":"alice","info":{\n "a": 1\n}}'
    token = jwt.PyJWS().encode(payload, SECRET, algorithm="HS256")
    assert verifier().connection(token).info == b'{"a":1}'


def test_base64_wins_over_plain_info() -> None:
    assert verifier().connection(signed(info=1, b64info=base64.b64encode(b"2").decode())).info == b"2"


@pytest.mark.parametrize("data", [b"\xff", b'"\xff"', b"{", b"\x00", b"[" * 100_000])
def test_in_base64_info_and_data_may_be_anything(data: bytes) -> None:
    encoded = base64.b64encode(data[:1000]).decode()
    token = verifier().connection(signed(b64info=encoded, subs={"a": {"b64data": encoded}}))
    assert (token.info, token.subs["a"].data) == (opaque(data[:1000]), opaque(data[:1000]))
    assert verifier().subscription(signed(channel="x", b64info=encoded)).grant.info == opaque(data[:1000])


@pytest.mark.parametrize("claims", [b"{}", b'{"sub":""}', b'{"sub":null}'])
def test_a_missing_or_empty_sub_is_anonymous(claims: bytes) -> None:
    token = jwt.PyJWS().encode(claims, SECRET, algorithm="HS256")
    assert verifier().connection(token).user == ""


@pytest.mark.parametrize(
    ("claims", "expire_at"),
    [
        ({}, 0),
        ({"exp": NOW + 10}, NOW + 10),
        ({"exp": NOW + 10.9}, NOW + 10),
        ({"exp": NOW + 10, "expire_at": 0}, 0),
        ({"exp": NOW + 10, "expire_at": NOW + 90}, NOW + 90),
        ({"expire_at": NOW - 5}, NOW - 5),
        ({"exp": 9_999_999_999}, 2**32 - 1),
        ({"exp": str(NOW + 10)}, NOW + 10),
        ({"exp": f"{NOW + 10}.9"}, NOW + 10),
        ({"exp": "4e9"}, 4_000_000_000),
        ({"exp": None}, 0),
        ({"exp": NOW + 10, "expire_at": None}, NOW + 10),
    ],
)
def test_when_connection_and_subscription_expire(claims: dict[str, Any], expire_at: int) -> None:
    assert verifier().connection(signed(**claims)).expire_at == expire_at
    assert verifier().subscription(signed(channel="x", **claims)).expire_at == expire_at


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": 42},
        {"sub": True},
        {"sub": ["alice"]},
        {"channel": "news"},
        {"channel": ""},
        {"exp": "soon"},
        {"exp": ""},
        {"exp": "nan"},
        {"exp": "1e999"},
        {"exp": "1" * 40},
        {"nbf": "soon"},
        {"exp": True},
        {"expire_at": -1},
        {"channels": "news"},
        {"subs": {"a": 1}},
        {"subs": {"a": {"override": {"presence": True}}}},
        {"meta": [1]},
        {"b64info": "!"},
        {"b64info": "ä"},
    ],
    ids=str,
)
def test_claims_that_make_no_sense(claims: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalid):
        verifier().connection(signed(**claims))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "ä.ä.ä",
        "\ud800.x.x",
        raw(b'{"alg":"HS256"}', b"{}"),
        raw(b'{"alg":["HS256"]}', b"{}"),
        raw(b'{"alg":null}', b"{}"),
        raw(b"{}", b"{}"),
        raw(b"[]", b"{}"),
        raw(b"[" * 5000, b"{}"),
        jwt.PyJWS().encode(b"[1]", SECRET, algorithm="HS256"),
        jwt.PyJWS().encode(b"no json", SECRET, algorithm="HS256"),
        jwt.PyJWS().encode(b'{"a":' + b"[" * 4000, SECRET, algorithm="HS256"),
        jwt.PyJWS().encode(b'{"info":"\xff"}', SECRET, algorithm="HS256"),
        jwt.encode({}, SECRET, algorithm="HS256", headers={"crit": ["unknown"], "unknown": 1}),
    ],
)
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(TokenInvalid):
        verifier().connection(token)
    with pytest.raises(TokenInvalid):
        verifier().subscription(token)


def _other_spelling(token: str) -> str:
    """The same signature bytes, by another last letter: its lowest bits mean nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda token: token + "x",
        lambda token: token[:-2],
        lambda token: token + ".x",
        lambda token: token.rpartition(".")[0],
        lambda token: token.rpartition(".")[0] + ".",
        lambda token: token.replace(".", "..", 1),
        lambda token: token[:-4] + "!" + token[-4:],
        lambda token: token[:-1] + "é",
        lambda token: token + "\ud800",
        lambda token: signed(OTHER),
        lambda token: raw(b'{"alg":"none"}', b"{}", b""),
        _other_spelling,
    ],
)
def test_a_header_that_is_known_makes_no_bad_token_good(damage: Callable[[str], str]) -> None:
    known = verifier()
    assert known.connection(signed(sub="first")).user == "first"
    assert known.connection(signed(sub="second")).user == "second"
    with pytest.raises(TokenInvalid):
        known.connection(damage(signed()))
    assert known.connection(signed(sub="third")).user == "third"


def test_headers_of_bad_tokens_are_not_kept() -> None:
    known = Keyring(configured(TokenSettings(hmac_secret_key=SECRET), "client.token", lambda: NOW))
    for number in range(HEADERS + 10):
        with pytest.raises(PyJWTError):
            known.verify(raw(b'{"alg":"HS256","kid":"%d"}' % number, b"{}"))
        good = jwt.encode({"sub": "alice"}, SECRET, algorithm="HS256", headers={"kid": f"good {number}"})
        assert known.verify(good).payload == b'{"sub":"alice"}'
    assert len(known._headers) == HEADERS


def test_of_a_token_whose_header_is_known_the_library_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Keyring(configured(TokenSettings(hmac_secret_key=SECRET), "client.token", lambda: NOW))
    known.verify(signed(sub="first"))
    monkeypatch.setattr(known._jws, "decode_complete", None)
    assert b"second" in known.verify(signed(sub="second")).payload


def test_tokens_that_are_too_long() -> None:
    short = signed(info="")
    longest = signed(info="x" * ((MAX_TOKEN_LENGTH - len(short)) * 3 // 4 - 4))
    assert MAX_TOKEN_LENGTH - 16 < len(longest) <= MAX_TOKEN_LENGTH
    assert verifier().connection(longest).user == "alice"
    with pytest.raises(TokenInvalid, match="longer"):
        verifier().connection(signed(info="x" * MAX_TOKEN_LENGTH))


# — keys and algorithms —


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_hmac(algorithm: str) -> None:
    token = jwt.encode({"sub": "alice"}, SECRET * 2, algorithm=algorithm)
    assert verifier(hmac_secret_key=SECRET * 2).connection(token).user == "alice"
    with pytest.raises(TokenInvalid):
        verifier().connection(token)


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 127, 128, 129, 300])
def test_secrets_of_all_lengths_are_hashed_as_the_library_does(
    length: int, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = ("secret" * 50)[:length]
    known = Keyring(configured(TokenSettings(hmac_secret_key=secret), "client.token", lambda: NOW))
    known.verify(jwt.encode({"sub": "first"}, secret, algorithm))
    monkeypatch.setattr(known._jws, "decode_complete", None)
    assert known.verify(jwt.encode({"sub": "second"}, secret, algorithm)).key == KEY


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512"])
def test_rsa(algorithm: str) -> None:
    token = jwt.encode({"sub": "alice"}, RSA, algorithm=algorithm)
    assert verifier(hmac_secret_key="", rsa_public_key=public_pem(RSA)).connection(token).user == "alice"
    with pytest.raises(TokenInvalid):
        verifier().connection(token)


@pytest.mark.parametrize("algorithm", CURVES)
def test_ecdsa(algorithm: str) -> None:
    tokens = {name: jwt.encode({"sub": "alice"}, key, algorithm=name) for name, key in EC.items()}
    own = verifier(ecdsa_public_key=public_pem(EC[algorithm]))
    assert own.connection(tokens.pop(algorithm)).user == "alice"
    for foreign in tokens.values():
        with pytest.raises(TokenInvalid):
            own.connection(foreign)


def test_a_curve_serves_its_own_algorithm_alone() -> None:
    header, payload = b'{"alg":"%s"}', b'{"sub":"alice"}'
    own = verifier(ecdsa_public_key=public_pem(EC["ES256"]))
    for algorithm, digest in ((b"ES256", hashes.SHA256()), (b"ES384", hashes.SHA384())):
        body = raw(header % algorithm, payload).rpartition(".")[0]
        r, s = decode_dss_signature(EC["ES256"].sign(body.encode(), ec.ECDSA(digest)))
        token = raw(header % algorithm, payload, r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        if algorithm == b"ES256":
            assert own.connection(token).user == "alice"
        else:
            with pytest.raises(TokenInvalid):
                own.connection(token)


def test_a_public_key_is_no_secret() -> None:
    """The classic forgery: sign by HMAC with the public key, which everybody knows."""
    pem = public_pem(RSA)
    own = verifier(hmac_secret_key="", rsa_public_key=pem)
    header, payload = b'{"alg":"HS256"}', b'{"sub":"root"}'
    body = raw(header, payload).rpartition(".")[0]
    forged = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(body.encode(), pem.encode())
    with pytest.raises(TokenInvalid):
        own.connection(raw(header, payload, forged))


def test_unsigned_tokens_and_tokens_without_any_key() -> None:
    unsigned = raw(b'{"alg":"none"}', b'{"sub":"root"}', b"")
    for own in (verifier(), verifier(hmac_secret_key="")):
        with pytest.raises(TokenInvalid):
            own.connection(unsigned)
    with pytest.raises(TokenInvalid, match="no key"):
        verifier(hmac_secret_key="").connection(signed())


def test_the_previous_secret_serves_until_its_time() -> None:
    for until, now, good in ((0, NOW, True), (NOW, NOW, True), (NOW, NOW + 1, False)):
        own = verifier(
            lambda now=now: now,  # type: ignore[misc]
            hmac_previous_secret_key=OTHER,
            hmac_previous_secret_key_valid_until=until,
        )
        assert own.connection(signed()).user == "alice"
        if good:
            assert own.connection(signed(OTHER)).user == "alice"
        else:
            with pytest.raises(TokenInvalid):
                own.connection(signed(OTHER))


def test_signatures_may_be_left_unseen_for_trying_out() -> None:
    settings = ClientSettings(insecure_skip_token_signature_verify=True)
    own = TokenVerifier(settings, lambda: NOW)
    assert own.connection(signed(OTHER)).user == "alice"
    with pytest.raises(TokenExpired):
        own.connection(signed(exp=NOW))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"rsa_public_key": "nonsense"}, "client.token.rsa_public_key is not a public key.*BEGIN PUBLIC KEY"),
        ({"rsa_public_key": public_pem(EC["ES256"])}, "client.token.rsa_public_key is not an RSA key"),
        (
            {"rsa_public_key": public_pem(rsa.generate_private_key(65537, 1024))},  # noqa: S505  a weak key on purpose
            "client.token.rsa_public_key has 1024 bits",
        ),
        ({"ecdsa_public_key": "ä"}, "client.token.ecdsa_public_key is not a public key"),
        ({"ecdsa_public_key": public_pem(RSA)}, "client.token.ecdsa_public_key is not an ECDSA key"),
        (
            {"ecdsa_public_key": public_pem(ec.generate_private_key(ec.SECP256K1()))},
            "client.token.ecdsa_public_key is not an ECDSA key",
        ),
        (
            {"ecdsa_public_key": public_pem(ed25519.Ed25519PrivateKey.generate())},
            "client.token.ecdsa_public_key is not an ECDSA key",
        ),
        ({"hmac_secret_key": public_pem(RSA)}, "client.token.hmac_secret_key holds an asymmetric key"),
        ({"hmac_previous_secret_key": public_pem(RSA)}, "client.token.hmac_previous_secret_key holds"),
    ],
)
def test_keys_that_cannot_be_used_stop_the_start(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        verifier(**keys)


def test_a_private_key_where_a_public_one_belongs_is_refused() -> None:
    private = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(SettingsError, match="rsa_public_key is not a public key"):
        verifier(rsa_public_key=private)


def test_bound_keys_are_not_handed_out() -> None:
    with pytest.raises(NotImplementedError):
        BoundAlgorithm.to_jwk(None)
    with pytest.raises(NotImplementedError):
        BoundAlgorithm.from_jwk({})


# — issuer, audience, times —


@pytest.mark.parametrize(
    ("settings", "good", "bad"),
    [
        ({"audience": "web"}, [{"aud": "web"}, {"aud": ["app", "web"]}], [{}, {"aud": "webb"}, {"aud": []}]),
        ({"audience_regex": "^web-[0-9]$"}, [{"aud": ["x", "web-1"]}], [{}, {"aud": "web-10"}]),
        ({"issuer": "me"}, [{"iss": "me"}], [{}, {"iss": "you"}]),
        ({"issuer_regex": "^m."}, [{"iss": "me"}], [{}, {"iss": "am"}]),
    ],
)
def test_issuer_and_audience(settings: dict[str, Any], good: list[dict[str, Any]], bad: list[dict[str, Any]]) -> None:
    own = verifier(**settings)
    for claims in good:
        assert own.connection(signed(**claims)).user == "alice"
    for claims in bad:
        with pytest.raises(TokenInvalid):
            own.connection(signed(**claims))


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW},
        {"exp": NOW - 1},
        {"exp": -1},
        {"exp": 0},
        {"exp": str(NOW)},
        {"nbf": NOW + 1},
        {"nbf": str(NOW + 1)},
    ],
)
def test_tokens_out_of_time(claims: dict[str, Any]) -> None:
    with pytest.raises(TokenExpired):
        verifier().connection(signed(**claims))
    with pytest.raises(TokenExpired):
        verifier().subscription(signed(channel="x", **claims))


def test_times_at_their_edge_pass() -> None:
    assert verifier().connection(signed(exp=NOW + 1, nbf=NOW)).user == "alice"


def test_signature_comes_first_then_issuer_then_time() -> None:
    with pytest.raises(TokenInvalid):
        verifier().connection(signed(OTHER, exp=NOW - 1))
    with pytest.raises(TokenInvalid):
        verifier(issuer="me").connection(signed(exp=NOW - 1))


def test_the_user_id_may_stand_in_another_claim() -> None:
    own = verifier(user_id_claim="uid")
    assert own.connection(signed(uid="bob")).user == "bob"
    assert own.connection(signed()).user == ""
    assert own.subscription(signed(uid="bob", channel="x")).user == "bob"
    for wrong in (True, ["bob"], {"id": 7}):
        with pytest.raises(TokenInvalid, match="uid is neither text nor a number"):
            own.connection(signed(uid=wrong))


@pytest.mark.parametrize(
    ("written", "user"),
    [
        ("42", "42"),
        ("-3", "-3"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("1.5", "1.5"),
        ("7.0", "7"),
        ("1e3", "1000"),
        ("1.5e-7", "0.00000015"),
        ("null", ""),
        ('""', ""),
        ('"mü"', "mü"),
    ],
)
def test_a_number_as_user_id_is_its_text(written: str, user: str) -> None:
    own = verifier(user_id_claim="uid")
    token = jwt.PyJWS().encode(f'{{"sub":"alice","uid":{written},"channel":"x"}}'.encode(), SECRET, algorithm="HS256")
    assert own.subscription(token).user == user


def test_a_refusal_says_which_claim_or_key_is_wrong() -> None:
    known = {
        signed(OTHER): ("signature", "alg is 'HS256', and no key of client.token has signed it"),
        jwt.encode({}, OTHER, "HS256", headers={"kid": "k\n1"}): (
            "signature",
            "alg is 'HS256', kid is 'k\\n1', and no key of client.token has signed it",
        ),
        jwt.encode({}, RSA, "RS256"): ("alg", "alg is 'RS256', and client.token has keys for HS256, HS384, HS512 only"),
        signed(sub=7): ("sub", "'Expected `str`, got `int` - at `$.sub`'"),
        "nonsense": ("format", "'Not enough segments'"),
    }
    for token, (claim, text) in known.items():
        with pytest.raises(TokenInvalid) as refused:
            verifier().connection(token)
        assert (refused.value.claim, str(refused.value)) == (claim, text)
    assert header("nonsense") == ""


# — subscription tokens —


def test_a_subscription_token_with_everything() -> None:
    token = sign_subscription(
        SECRET, "alice", "$x", 60, NOW, client="c1", info={"a": 1}, data=[2], override={"join_leave": {"value": True}}
    )
    assert verifier().subscription(token) == SubscriptionToken(
        "alice",
        "$x",
        "c1",
        NOW + 60,
        Grant(Payload(b'{"a":1}'), Payload(b"[2]"), Override(join_leave=True)),
        KEY,
    )


@pytest.mark.parametrize("claims", [{}, {"channel": ""}, {"channel": None}, {"channel": 7}])
def test_a_subscription_token_names_its_channel(claims: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalid):
        verifier().subscription(signed(**claims))


def test_subscription_tokens_may_have_keys_of_their_own() -> None:
    for enabled, good, bad in ((True, OTHER, SECRET), (False, SECRET, OTHER)):
        own = TokenVerifier(
            ClientSettings(
                token=TokenSettings(hmac_secret_key=SECRET),
                subscription_token=SubscriptionTokenSettings(enabled=enabled, hmac_secret_key=OTHER),
            )
        )
        assert own.connection(signed()).user == "alice"
        assert own.subscription(sign_subscription(good, "alice", "x")).channel == "x"
        with pytest.raises(TokenInvalid):
            own.subscription(sign_subscription(bad, "alice", "x"))


def test_signed_tokens_carry_what_backends_write() -> None:
    assert json.loads(jwt.PyJWS().decode(sign_connection(SECRET, "a", 60, NOW), SECRET, ["HS256"])) == {
        "sub": "a",
        "iat": NOW,
        "exp": NOW + 60,
    }
    assert jwt.get_unverified_header(signed()) == {"alg": "HS256", "typ": "JWT"}


# — overrides —


def test_overrides_replace_single_options() -> None:
    options = ChannelOptions(presence=True, join_leave=True, history_size=5)
    changed = Override(presence=False, force_recovery=True).apply(options)
    assert (changed.presence, changed.force_recovery) == (False, True)
    assert (changed.join_leave, changed.history_size) == (True, 5)
    assert options.presence


def test_subscribers_share_overridden_options() -> None:
    options = ChannelOptions()
    assert Override().apply(options) is options
    assert Override(presence=True).apply(options) is Override(presence=True).apply(options)
