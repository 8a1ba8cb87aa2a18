"""Fossil deltas."""

import json
import random

import pytest

from gateway.protocols.fossil import BLOCKS, LARGEST, MISSES, FossilError, apply, checksum, create, number

SOURCE = b'{"sensor":"t-17","unit":"celsius","site":"north hall","value":21.4}'

FIXTURES: dict[str, tuple[bytes, bytes]] = {
    "another value": (SOURCE.replace(b"21.4", b"21.9"), b"13\n11@0,2:9}3P2S2G;"),
    "the same": (SOURCE, b"13\n13@0,3P1C2G;"),
    "a word": (SOURCE.replace(b"north", b"south"), b"13\nf@0,3:souM@i,3S1CMG;"),
    "nothing": (b"", b"0\n0;"),
}


@pytest.mark.parametrize(("target", "patch"), FIXTURES.values(), ids=FIXTURES)
def test_fixtures_of_the_protocol(target: bytes, patch: bytes) -> None:
    assert create(SOURCE, target) == patch
    assert apply(SOURCE, patch) == target


def test_numbers_and_checksums() -> None:
    assert [number(each) for each in (0, 63, 64, 4096, 3328336740)] == [b"0", b"~", b"10", b"100", b"36ObD_"]
    assert [checksum(each) for each in (b"", b"abcde")] == [0, 3328336740]
    assert checksum(b"\xff" * 64) == 16 * 0xFFFFFFFF % 2**32


def text(chance: random.Random) -> str:
    alphabet = chance.choice(["ab", "abcdefgh", "aé漢🎉b", "éèêë", "漢漣漥漫", "🎉🎊🎋a", "0123456789"])
    return "".join(chance.choices(alphabet, k=chance.randrange(400)))


def edited(chance: random.Random, original: str) -> str:
    """The same with some places replaced, or its parts in another order."""
    for _ in range(chance.randrange(6)):
        start = chance.randrange(len(original) + 1)
        stop = start + chance.randrange(30)
        new = text(chance)[:30]
        rest = original[stop:] + original[:start]
        original = rest if chance.randrange(4) == 0 else original[:start] + new + original[stop:]
    return original


@pytest.mark.parametrize("seed", range(20))
def test_what_is_made_of_texts_is_made_again_and_is_text(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(200):
        source = text(chance)
        target = edited(chance, source).encode()
        patch = create(source.encode(), target)
        patch.decode()
        assert apply(source.encode(), patch) == target


def test_what_is_made_of_bytes_is_made_again() -> None:
    chance = random.Random(7)
    for _ in range(1000):
        source = chance.randbytes(chance.randrange(300))
        target = source[chance.randrange(300) :] + chance.randbytes(chance.randrange(50)) + source
        assert apply(source, create(source, target)) == target


def document(items: int, chance: random.Random) -> bytes:
    changed = random.Random(chance.random())
    fixed = random.Random(1)
    rows = [{"id": each, "name": f"item-{fixed.randrange(10**6)}", "price": 1.5, "on": True} for each in range(items)]
    for row in changed.sample(rows, max(1, items // 10)):
        row["price"] = changed.randrange(10**5) / 100
    return json.dumps(rows).encode()


@pytest.mark.parametrize("items", [18, 180, 900])
def test_states_change_little(items: int) -> None:
    chance = random.Random(3)
    source, target = document(items, chance), document(items, chance)
    patch = create(source, target)
    assert len(patch) < len(target) / 4
    assert apply(source, patch) == target


def test_what_has_nothing_in_common_is_given_up() -> None:
    """Places are looked at up to a number, however large the payloads are."""
    chance = random.Random(5)
    source, target = chance.randbytes(LARGEST), chance.randbytes(2 * MISSES)
    assert LARGEST // BLOCKS > 8
    target = b"x" + target + source[-4000:-1000] + b"y"
    assert len(create(source, target)) > len(target), "what stands behind is looked for no more"
    found = create(source, b"x" + target[-4001:])
    assert len(found) < 1200


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "no size": b"\n0;",
    "no line": b"13 13@0,3P1C2G;",
    "no end": b"13\n13@0,",
    "no checksum": b"13\n13@0,;",
    "a copy from beyond": b"13\n13@1,3P1C2G;",
    "a copy without comma": b"13\n13@0;3P1C2G;",
    "an unknown command": b"13\n13?0,3P1C2G;",
    "too short": b"13\n12@0,3P1C2G;",
    "another checksum": b"13\n13@0,3P1C2H;",
    "something behind the end": b"13\n13@0,3P1C2G;0;",
    "a number of more than 32 bits": b"1000000\n0;",
    "an insert cut short": b"5\n5:abc",
}


@pytest.mark.parametrize("patch", BROKEN.values(), ids=BROKEN)
def test_what_is_no_patch(patch: bytes) -> None:
    with pytest.raises(FossilError):
        apply(SOURCE, patch)


def test_what_has_changed_everywhere_is_given_up() -> None:
    source = bytes(range(256)) * 100
    target = b"".join(source[at : at + 15] + b"?" for at in range(0, len(source), 16))
    patch = create(source, target)
    assert apply(source, patch) == target
    assert MISSES // 16 < patch.count(b"@") < MISSES // 8
