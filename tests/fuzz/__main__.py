"""Looks for scenes that go wrong, led by what code they reach: ``python -m tests.fuzz FOLDER [-max_total_time=3600]``.

Needs ``atheris``. FOLDER gets what was found, one file a kind, and keeps the scenes that led anywhere, to go on from.
``python -m tests.fuzz FILE`` plays one scene again.
"""

import hashlib
import random
import re
import sys
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gateway"]):
    from tests.fuzz.grammar import scenes
    from tests.fuzz.ground import Loop
    from tests.fuzz.scenes import STEP, play
    from tests.fuzz.seeds import WORDS, seeds, transcripts

from hypothesis import HealthCheck, given, settings

GRAMMAR = 64
"""Of a scene's first byte: what follows is for the grammar to make up a scene from."""


def main() -> None:
    path = Path(sys.argv[1])
    loop = Loop()
    if path.is_file():
        print(loop.run_until_complete(play(loop, path.read_bytes())).kinds)
        return
    corpus, found = path / "corpus", path / "found"
    for each in (corpus, found):
        each.mkdir(parents=True, exist_ok=True)
    made_up = [bytes([GRAMMAR]) + random.Random(each).randbytes(400) for each in range(20)]
    for seed in (*seeds(), *transcripts(), *made_up):
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)  # noqa: S324
    words = path / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS))
    known: set[str] = set()

    def note(scene: bytes) -> None:
        """Play a scene, and keep it if something is wrong that was not wrong before."""
        try:
            loop.run_until_complete(play(loop, scene))
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            kind = re.sub(r"[0-9a-f]{8}|\d+", "N", f"{type(error).__name__} {last.name} {error}")
            kind = f"{kind[:120]} … {kind.splitlines()[-1][:80]}"
            if kind not in known:
                known.add(kind)
                name = f"{len(known):03}-{hashlib.sha1(kind.encode()).hexdigest()[:8]}"  # noqa: S324
                (found / name).write_bytes(scene)
                steps = "\n".join(map(repr, scene[1:].split(STEP)))
                (found / f"{name}.txt").write_text(f"{steps}\n\n{''.join(traceback.format_exception(error))}")
                print(f"FOUND {name}: {kind}", flush=True)

    from_grammar = given(scenes())(
        settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))(note)
    )

    def one(data: bytes) -> None:
        if data and data[0] & GRAMMAR:
            from_grammar.hypothesis.fuzz_one_input(data[1:])  # type: ignore[attr-defined]
        else:
            note(data)

    options = ["-rss_limit_mb=3000", "-max_len=3000", "-len_control=0", "-timeout=60", f"-dict={words}", *sys.argv[2:]]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


if __name__ == "__main__":
    main()
