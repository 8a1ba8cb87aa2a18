"""Signatures of keys: what is good, and for whom."""

import pytest

from gateway.auth.tracking import sign_keys, signed_until
from gateway.config.settings.polls import PollSettings

GIVEN = "1700000000:1700003600:0837a7da9a017d38ebf2a236bb187f24c71f337b3c1ad0a20129dec428326987"
KEYS = ["k1", "k2"]


def test_the_vector_of_the_protocol() -> None:
    assert sign_keys("ps", 1700000000, 1700003600, "7", "poll:a", KEYS) == GIVEN
    assert signed_until(PollSettings(hmac_secret_key="ps"), GIVEN, "7", "poll:a", KEYS) == 1700003600


@pytest.mark.parametrize(
    ("secret", "signature", "user", "channel", "keys"),
    [
        ("other", GIVEN, "7", "poll:a", KEYS),
        ("ps", GIVEN, "8", "poll:a", KEYS),
        ("ps", GIVEN, "7", "poll:b", KEYS),
        ("ps", GIVEN, "7", "poll:a", ["k2", "k1"]),
        ("ps", GIVEN, "7", "poll:a", ["k1"]),
        ("ps", GIVEN.replace("1700003600", "1900003600"), "7", "poll:a", KEYS),
        ("ps", GIVEN + ":", "7", "poll:a", KEYS),
        ("ps", "", "7", "poll:a", KEYS),
        ("ps", "1:2", "7", "poll:a", KEYS),
        ("ps", "²:1:é", "7", "poll:a", KEYS),
        ("", GIVEN, "7", "poll:a", KEYS),
    ],
)
def test_others_are_none(secret: str, signature: str, user: str, channel: str, keys: list[str]) -> None:
    assert signed_until(PollSettings(hmac_secret_key=secret), signature, user, channel, keys) is None


@pytest.mark.parametrize(("until", "good"), [(0, True), (1700000000, True), (1699999999, False)])
def test_the_secret_before_is_good_for_a_while(until: int, good: bool) -> None:
    settings = PollSettings(
        hmac_secret_key="new", hmac_previous_secret_key="ps", hmac_previous_secret_key_valid_until=until
    )
    assert (signed_until(settings, GIVEN, "7", "poll:a", KEYS) is not None) is good
