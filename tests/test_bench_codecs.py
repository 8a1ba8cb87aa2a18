"""The count of codecs says what each message takes by each of them, and all of them write and read the same."""

from bench.codecs import decoding, encoding, patching
from gateway.protocols.protobuf import delimited
from tests.forked import run


def test_a_small_one_counts_everything() -> None:
    done = run("bench.codecs", ["--runs", "1"])
    assert not done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    names = [name for name, _ in (*encoding(), *decoding())]
    sizes = [f"{size} bytes" for size in ("1,000", "10,000", "64,000")]
    counted = [row for row in rows if row[0] in (*names, *sizes)]
    assert [row[0] for row in counted] == [*names, *sizes]
    assert all(float(cell) > 0 for row in counted for cell in row[1:])


def test_google_writes_the_same_bytes() -> None:
    for name, (_, ours, googles) in encoding():
        written = googles()
        assert isinstance(written, bytes)
        assert ours() == delimited(written), name


def test_a_patch_is_of_states_of_that_size() -> None:
    source, target = patching(1_000, 0.5).args  # type: ignore[attr-defined]
    assert (len(source), len(target)) == (1_000, 1_000)
    assert source != target
