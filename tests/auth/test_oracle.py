"""Tokens as PyJWT judges them, and as a keyring does: the same, whether the header is known to it or not."""

import base64
import hmac
import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt import PyJWTError

from gateway.auth.keys import Keyring, Verified, configured
from gateway.auth.tokens import TokenInvalid, TokenVerifier
from gateway.config.settings import ClientSettings, TokenSettings

NOW = 1_800_000_000
ONE, TWO, THREE, FOREIGN = (f"secret number {number} ".ljust(64, "x") for number in range(4))
"""Longer than any hash, for the library warns of others."""
RSA = rsa.generate_private_key(65537, 2048)
PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
HMAC, BY_RSA = ["HS256", "HS384", "HS512"], ["RS256", "RS384", "RS512"]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

SETTINGS: dict[str, dict[str, Any]] = {
    "one secret": {"hmac_secret_key": ONE},
    "several secrets": {"hmac_secret_key": ONE, "hmac_secret_keys": {"two": TWO, "three": THREE}},
    "a secret that has had its time": {
        "hmac_secret_key": ONE,
        "hmac_previous_secret_key": FOREIGN,
        "hmac_previous_secret_key_valid_until": NOW - 1,
    },
    "secrets and RSA": {"hmac_secret_key": ONE, "hmac_secret_keys": {"two": TWO}, "rsa_public_keys": {"r": PEM}},
    "RSA alone": {"rsa_public_key": PEM},
    "no key": {},
}


def keys(settings: dict[str, Any]) -> list[tuple[str, Any, Sequence[str]]]:
    """Those that are good now: name, key and algorithms."""
    found: list[tuple[str, Any, Sequence[str]]] = []
    for kind, algorithms in (("hmac_secret_key", HMAC), ("rsa_public_key", BY_RSA)):
        named = {kind: settings.get(kind), **settings.get(f"{kind}s", {})}
        found += [(name, key, algorithms) for name, key in named.items() if key]
    return found


def judged(token: str, settings: dict[str, Any]) -> bytes | None:
    """What PyJWT reads, whichever of the keys it is that has signed, if base64 is written in the one way there is."""
    for part in token.split("."):
        if not set(part) <= set(LETTERS) or encoded(decoded(part)) != part:
            return None
    for _, key, algorithms in keys(settings):
        try:
            found: bytes = jwt.PyJWS().decode(token, key, algorithms=algorithms)
        except (PyJWTError, RecursionError):  # older ones let that through
            continue
        return found
    return None


def verified(keyring: Keyring, token: str) -> Verified | None:
    try:
        return keyring.verify(token)
    except (PyJWTError, UnicodeError, RecursionError):
        return None


def keyring(settings: dict[str, Any]) -> Keyring:
    return Keyring(configured(TokenSettings(**settings), "here", lambda: NOW))


@cache
def knowing(settings: str) -> Keyring:
    """A keyring that knows the headers of good tokens."""
    found = keyring(SETTINGS[settings])
    for each in KNOWN:
        verified(found, each)
    return found


def check(token: str, kind: str) -> bool:
    """Compare the verdicts of keyrings that know the header, or may know it, or do not; say what they are."""
    settings = SETTINGS[kind]
    expected, fresh = judged(token, settings), keyring(settings)
    for each in (fresh, fresh, knowing(kind)):
        found = verified(each, token)
        assert (found and found.payload) == expected
        if found:
            key, algorithms = next((key, algorithms) for name, key, algorithms in keys(settings) if name == found.key)
            assert jwt.PyJWS().decode(token, key, algorithms=algorithms) == expected
    return expected is not None


# — tokens, good and bad —


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) if len(part) % 4 != 1 else b""


def signature(signed: str, secret: str = ONE, algorithm: str = "HS256") -> str:
    return encoded(hmac.digest(secret.encode(), signed.encode(errors="surrogatepass"), f"sha{algorithm[2:]}"))


def signed(header: str, payload: str, secret: str = ONE, algorithm: str = "HS256") -> str:
    """Segments with a signature, whatever they are."""
    return f"{header}.{payload}.{signature(f'{header}.{payload}', secret, algorithm)}"


def token(header: str | bytes, secret: str = ONE, algorithm: str = "HS256") -> str:
    return signed(encoded(header.encode() if isinstance(header, str) else header), PAYLOAD, secret, algorithm)


def other_spelling(part: str) -> str:
    """The same bytes by another last letter, if its lowest bits mean nothing."""
    return part[:-1] + LETTERS[LETTERS.index(part[-1]) ^ 1]


HEADER, SPACED, APART = map(
    encoded, (b'{"alg":"HS256"}', b'{"alg":"HS256"} ', b'{"alg":"HS256","crit":["b64"],"b64":false}')
)
PAYLOAD = encoded(b'{"sub":"ann"}')
GOOD = signed(HEADER, PAYLOAD)
SIGNATURE = GOOD.rpartition(".")[2]
BY_PUBLIC_KEY = jwt.encode({"sub": "ann"}, RSA, "RS256")
KNOWN = [
    GOOD,
    BY_PUBLIC_KEY,
    jwt.encode({"sub": "ann"}, RSA, "RS512", {"kid": "r"}),
    *(jwt.encode({"sub": "ann"}, ONE, each) for each in HMAC),
    *(
        jwt.encode({"sub": "ann"}, key, each, {"kid": kid})
        for key, each, kid in ((ONE, "HS256", "two"), (TWO, "HS512", "two"), (THREE, "HS256", ""), (ONE, "HS256", "x"))
    ),
]
PAYLOADS = [encoded(b'{"sub":"%b"}' % (b"a" * length)) for length in range(3)]
"""Of all three lengths: where one ends it may have letters with bits that mean nothing."""

HEADERS: list[str | bytes] = [
    *r"""

null
7
"HS256"
[]
{}
{
{}{}
{"alg":"HS256"}x
 {"alg":"HS256"}
{"alg":"HS256",}
{'alg':'HS256'}
{"alg":"none"}
{"alg":"None"}
{"alg":""}
{"alg":null}
{"alg":7}
{"alg":true}
{"alg":["HS256"]}
{"alg":{"HS256":1}}
{"alg":"hs256"}
{"alg":"HS256 "}
{"alg":"HS256\u0000"}
{"alg":"\u0048S256"}
{"alg":"HS٢٥٦"}
{"alg":"HS224"}
{"alg":"HS384"}
{"alg":"RS256"}
{"alg":"RS256","kid":"r"}
{"alg":"PS256"}
{"alg":"ES256"}
{"alg":"EdDSA"}
{"ALG":"HS256"}
{"typ":"JWT"}
{"alg":"none","alg":"HS256"}
{"alg":"HS256","alg":"none"}
{"alg":"HS256","kid":"two","kid":7}
{"alg":"HS256","kid":7,"kid":"two"}
{"alg":"HS256","crit":["x"],"crit":["b64"],"b64":true}
{"alg":"HS256","typ":null}
{"alg":"HS256","typ":"jws"}
{"alg":"HS256","typ":["JWT"]}
{"alg":"HS256","cty":"JWT","zip":"DEF","jku":"https://example.com","jwk":{"kty":"oct","k":"AA"}}
{"alg":"HS256","crit":null}
{"alg":"HS256","crit":[]}
{"alg":"HS256","crit":{}}
{"alg":"HS256","crit":"b64"}
{"alg":"HS256","crit":[7]}
{"alg":"HS256","crit":["x"]}
{"alg":"HS256","crit":["x"],"x":1}
{"alg":"HS256","crit":["alg"]}
{"alg":"HS256","crit":["b64"]}
{"alg":"HS256","crit":["b64"],"b64":true}
{"alg":"HS256","crit":["b64"],"b64":false}
{"alg":"HS256","b64":true}
{"alg":"HS256","b64":false}
{"alg":"HS256","b64":0}
{"alg":"HS256","b64":null}
{"alg":"HS256","b64":"false"}
{"alg":"HS256","kid":null}
{"alg":"HS256","kid":7}
{"alg":"HS256","kid":["two"]}
{"alg":"HS256","kid":{"two":1}}
{"alg":"HS256","kid":""}
{"alg":"HS256","kid":"two"}
{"alg":"HS256","kid":"three"}
{"alg":"HS256","kid":"r"}
{"alg":"HS256","kid":"hmac_secret_key"}
{"alg":"HS256","kid":"é"}
{"alg":"HS256","kid":"\ud800"}
{"alg":"HS256","x":NaN}
{"alg":"HS256","x":1e999}
{"alg":"HS256","x":{"alg":"none"}}
""".splitlines(),
    '{"alg":"HS256"}\r\n',
    *('{"alg":"HS256","x":' + each + "}" for each in ("9" * 5000, '"' + "x" * 6000 + '"', "[" * 2000)),
    b'{"alg":"HS256","x":"\xff"}',
    b'\xef\xbb\xbf{"alg":"HS256"}',
    '{"alg":"HS256"}'.encode("utf-16-le"),
]

SEGMENTS: dict[str, str] = {
    "nothing": "",
    "dots alone": "..",
    "a segment": HEADER,
    "two": f"{HEADER}.{PAYLOAD}",
    "an empty signature": f"{HEADER}.{PAYLOAD}.",
    "an empty header": f".{PAYLOAD}.{SIGNATURE}",
    "an empty header, signed": signed("", PAYLOAD),
    "an empty payload, signed": signed(HEADER, ""),
    "a fourth": f"{GOOD}.{PAYLOAD}",
    "a fourth, signed": signed(f"{HEADER}.{PAYLOAD}", PAYLOAD),
    "an empty fourth": f"{GOOD}.",
    "an empty one between, signed": signed(f"{HEADER}.", PAYLOAD),
    "an empty one before": f".{GOOD}",
    "a token twice": f"{GOOD}.{GOOD}",
    "a padded signature": f"{GOOD}=",
    "a signature padded twice": f"{GOOD}==",
    "a padded header, signed": signed(f"{SPACED}==", PAYLOAD),
    "padding within the payload, signed": signed(HEADER, f"{PAYLOAD[:4]}=={PAYLOAD[4:]}"),
    "another spelling of the signature": f"{HEADER}.{PAYLOAD}.{other_spelling(SIGNATURE)}",
    "another spelling of the header, signed": signed(other_spelling(SPACED), PAYLOAD),
    "plain base64, signed": signed(HEADER, base64.b64encode(b'{"sub":"\xc3\xbf>>>???\xc3\xbf"}').decode().rstrip("=")),
    "plain base64 in the signature": f"{HEADER}.{PAYLOAD}.{SIGNATURE.replace('-', '+').replace('_', '/')}",
    "a letter too many, signed": signed(HEADER, "AAAAA"),
    "a space before": f" {GOOD}",
    "a space behind": f"{GOOD} ",
    "a line end behind": f"{GOOD}\n",
    "a line end in the signature": f"{GOOD[:-8]}\n{GOOD[-8:]}",
    "a space in the payload, signed": signed(HEADER, f"{PAYLOAD[:8]} {PAYLOAD[8:]}"),
    "a line end in the header, signed": signed(f"{HEADER[:8]}\n{HEADER[8:]}", PAYLOAD),
    "a zero in the payload, signed": signed(HEADER, f"{PAYLOAD}\0"),
    "a mark in the signature": f"{HEADER}.{PAYLOAD}.!{SIGNATURE}",
    "a letter that is none of ASCII": f"{GOOD[:-1]}é",
    "a digit that is none of ASCII": f"{GOOD[:-1]}٣",
    "wide letters": GOOD.replace("e", "ｅ"),
    "half a character": f"{GOOD}\ud800",
    "a letter that is none of ASCII, signed": signed(HEADER, f"{PAYLOAD}é"),
    "half a character, signed": signed(HEADER, f"{PAYLOAD}\ud800"),
    "a signature cut": GOOD[:-1],
    "half a signature": GOOD[:-22],
    "a signature twice": f"{GOOD}{SIGNATURE}",
    "a signature as hexadecimal digits": f"{HEADER}.{PAYLOAD}.{decoded(SIGNATURE).hex()}",
    "another algorithm's signature": signed(HEADER, PAYLOAD, algorithm="HS512"),
    "a stranger's": signed(HEADER, PAYLOAD, FOREIGN),
    "the public key as secret": signed(HEADER, PAYLOAD, PEM),
    "the public key as secret, by name": token('{"alg":"HS256","kid":"r"}', PEM),
    "RSA's signature for a secret": f"{HEADER}.{BY_PUBLIC_KEY.split('.', 1)[1]}",
    "a payload that stands apart": f"{APART}..{SIGNATURE}",
    **{
        f"a payload with {end!r}, signed": signed(HEADER, each + end) for each in PAYLOADS for end in ("=", "==", "===")
    },
    **{f"another spelling of {each}, signed": signed(HEADER, other_spelling(each)) for each in PAYLOADS},
}


# — the verdicts —


@pytest.mark.parametrize("kind", SETTINGS)
def test_good_tokens(kind: str) -> None:
    names = {name for name, _, _ in keys(SETTINGS[kind])}
    signers: dict[str, tuple[Any, Sequence[str]]] = {
        "hmac_secret_key": (ONE, HMAC),
        "two": (TWO, HMAC),
        "three": (THREE, HMAC),
        "rsa_public_key": (RSA, BY_RSA),
        "r": (RSA, BY_RSA),
        "nobody": (FOREIGN, HMAC),
    }
    for name, (key, algorithms) in signers.items():
        for algorithm in algorithms:
            for headers in ({}, {"kid": name}, {"kid": "two"}, {"kid": "none"}, {"x": 1}):
                good = name in names or (key is RSA and bool(names & {"r", "rsa_public_key"}))
                assert check(jwt.encode({"sub": "ann"}, key, algorithm, headers), kind) == good


@pytest.mark.parametrize("kind", SETTINGS)
def test_headers(kind: str) -> None:
    accepted = [header for header in HEADERS if check(token(header), kind)]
    assert bool(accepted) == ("hmac_secret_key" in SETTINGS[kind])
    for secret, algorithm in ((TWO, "HS256"), (ONE, "HS384"), (FOREIGN, "HS256")):
        for header in HEADERS:
            check(token(header, secret, algorithm), kind)


def test_a_few_of_the_headers_are_good() -> None:
    accepted = {header for header in HEADERS if check(token(header), "several secrets")}
    assert accepted >= {r'{"alg":"\u0048S256"}', '{"alg":"HS256","typ":null}', '{"alg":"HS256","kid":"r"}'}
    for bad in ('{"alg":"none"}', '{"alg":"HS256","crit":["x"],"x":1}', '{"alg":"HS256","kid":7}'):
        assert bad in HEADERS
        assert bad not in accepted


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("text", SEGMENTS.values(), ids=SEGMENTS)
def test_what_is_no_token(text: str, kind: str) -> None:
    check(text, kind)
    with pytest.raises(TokenInvalid):
        TokenVerifier(ClientSettings(token=TokenSettings(**SETTINGS[kind])), lambda: NOW).connection(text)


PIECES = st.one_of(
    st.sampled_from(["", ".", "=", "-", "_", "+", "/", " ", "\n", "A", HEADER, PAYLOAD, SIGNATURE]),
    st.text(max_size=3),
)


@given(
    st.sampled_from(KNOWN),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), PIECES), max_size=2),
    st.sampled_from([ONE, TWO, FOREIGN, None]),
    st.sampled_from(HMAC),
    st.sampled_from(list(SETTINGS)),
)
def test_tokens_that_are_damaged_or_signed_again(
    text: str, damage: list[tuple[int, int, str]], secret: str | None, algorithm: str, kind: str
) -> None:
    for at, length, piece in damage:
        text = text[:at] + piece + text[at + length :]
    if secret is not None:
        header, _, payload = text.rpartition(".")[0].partition(".")
        text = signed(header, payload, secret, algorithm)
    check(text, kind)


@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "crit", "b64", "typ", "x"]),
        st.sampled_from([*HMAC, "RS256", "none", "two", "", None, 7, True, False, ["b64"], ["x"], [], {}]),
    ),
    st.binary(max_size=20),
    st.sampled_from([ONE, TWO, FOREIGN]),
    st.sampled_from(HMAC),
    st.sampled_from(list(SETTINGS)),
)
def test_headers_of_all_kinds(header: dict[str, Any], payload: bytes, secret: str, algorithm: str, kind: str) -> None:
    check(signed(encoded(json.dumps(header).encode()), encoded(payload), secret, algorithm), kind)
