"""What clients of the Pusher protocol and backends are told, byte for byte, as the protocol's description has it.

``python -m tests.protocols.golden.pusher`` writes the transcripts anew.
"""

import pytest

from tests.protocols.golden.pusher import FOLDER, path_of
from tests.protocols.golden.pusher.scenes import SCENES
from tests.protocols.golden.pusher.stage import Scene, play

PRESENCE = r"\"hash\":{\"23\":{\"name\":\"Ivo\"},\"17\":{\"name\":\"Noor\"}},\"count\":2}}"
SUBSCRIBED = '< {"event":"pusher_internal:subscription_succeeded","channel":'

DESCRIBED: dict[str, list[str]] = {
    "connect": [
        r'{"event":"pusher:connection_established","data":"{\"socket_id\":\"48213.907714\",\"activity_timeout\":60}"}',
        'C > {"event":"pusher:ping","data":{}}',
        'C < {"event":"pusher:pong","data":"{}"}',
    ],
    "unknown_key": ['C < {"event":"pusher:error","data":{"code":4001,"message":', "C ! 4001 "],
    "public": [
        'C > {"event":"pusher:subscribe","data":{"auth":"","channel":"news"}}',
        f'C {SUBSCRIBED}"news","data":"{{}}"}}',
        r'A > POST /apps/9001/events {"name":"headline","channels":["news"],"data":"{\"t\":\"Rain\"}"}',
        "A < 200 {}",
        r'C < {"event":"headline","channel":"news","data":"{\"t\":\"Rain\"}"}',
        'C > {"event":"pusher:unsubscribe","data":{"channel":"news"}}',
    ],
    "private": [
        'C > {"event":"pusher:subscribe","data":{"auth":"k3y0example:aee872',
        f'C {SUBSCRIBED}"private-orders.7","data":"{{}}"}}',
        'C > {"event":"pusher:subscribe","data":{"auth":"k3y0example:0000","channel":"private-orders.8"}}',
        'C < {"event":"pusher:subscription_error","channel":"private-orders.8","data":{"type":"AuthError","error":',
        ',"status":401}}',
    ],
    "presence": [
        'C17a > {"event":"pusher:subscribe","data":{"auth":"k3y0example:c3c401',
        rf'C17a {SUBSCRIBED}"presence-desk","data":"{{\"presence\":{{\"ids\":[\"23\",\"17\"],{PRESENCE}"}}',
        r'C23 < {"event":"pusher_internal:member_added","channel":"presence-desk","data":"{\"user_id\":\"17\",',
        r'\"user_info\":{\"name\":\"Noor\"}}"}',
        rf'C17b {SUBSCRIBED}"presence-desk","data":"{{\"presence\":{{\"ids\":[\"23\",\"17\"],{PRESENCE}"}}',
        "* C17a closes\n* C17b closes\n",
        r'C23 < {"event":"pusher_internal:member_removed","channel":"presence-desk","data":"{\"user_id\":\"17\"}"}',
    ],
    "client_events": [
        'C17 > {"event":"client-typing","data":{"on":true},"channel":"presence-desk"}',
        'C23 < {"event":"client-typing","channel":"presence-desk","data":{"on":true},"user_id":"17"}',
        'C17 < {"event":"pusher:error","data":{"code":4301,"message":',
    ],
    "cache": [
        f'C1 {SUBSCRIBED}"cache-rate","data":"{{}}"}}\n',
        'C1 < {"event":"pusher:cache_miss","channel":"cache-rate","data":"{}"}',
        'C1 < {"event":"tick","channel":"cache-rate","data":"1.07"}',
        f'C2 {SUBSCRIBED}"cache-rate","data":"{{}}"}}\n',
        'C2 < {"event":"tick","channel":"cache-rate","data":"1.07"}',
    ],
    "users": [
        'C17 > {"event":"pusher:signin","data":{"auth":"k3y0example:ab7dae',
        r'C17 < {"event":"pusher:signin_success","data":{"user_data":"{\"id\":\"17\",\"watchlist\":[\"23\"]}"}}',
        'C17 < {"event":"pusher_internal:watchlist_events","data":{"events":[{"name":"online","user_ids":["23"]}]}}',
        f'C17 {SUBSCRIBED}"#server-to-user-17","data":"{{}}"}}',
        "A > POST /users/17/terminate_connections {}\nA < 200 {}\n",
        'C17 < {"event":"pusher:error","data":{"code":4009,"message":',
        "C17 ! 4009 ",
    ],
    "batch": ['A < 200 {"batch":[{"subscription_count":3},{}]}'],
    "queries": [
        'A < 200 {"channels":{"presence-desk":{"user_count":2}}}',
        'A < 200 {"occupied":false}',
        'A < 200 {"users":[{"id":"17"},{"id":"23"}]}',
    ],
}
"""What the exchanges of the description say, in their order; the texts of errors are everybody's own."""


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_transcripts(scene: Scene) -> None:
    assert await play(scene) == path_of(scene.name).read_text()


def test_there_are_no_others() -> None:
    assert {*FOLDER.glob("*.txt")} == {path_of(scene.name) for scene in SCENES}


@pytest.mark.parametrize("name", DESCRIBED)
def test_they_say_what_the_description_says(name: str) -> None:
    rest = path_of(name).read_text()
    for expected in DESCRIBED[name]:
        before, found, rest = rest.partition(expected)
        assert found, f"{expected}\nis not in\n{before}"


def test_each_exchange_of_the_description_is_there() -> None:
    numbered = [scene.name for scene in SCENES if scene.title[0].isdigit()]
    assert numbered == list(DESCRIBED)


def test_who_is_excluded_gets_nothing() -> None:
    heard = [
        line for line in path_of("batch").read_text().splitlines() if '"channel":"private-orders.7","data":"2"' in line
    ]
    assert [line.partition(" ")[0] for line in heard] == ["A", "C2"]
