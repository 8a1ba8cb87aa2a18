"""What the libraries rely on, row by row, and the tests that have it."""

import re
from pathlib import Path

import pytest

ROWS = {
    "pusher-js: the first frame is connection_established, with socket_id and activity_timeout": """
        test_pusher_js.py test_the_first_frame_greets_and_nothing_precedes_it
        test_pusher_js.py test_a_client_connects_and_has_a_socket_id
    """,
    "pusher-js: refusals come after the upgrade, in-band and as close code": """
        test_closing.py test_refusals_come_after_the_upgrade
        test_closing.py test_a_refused_client_stays_away
        test_closing.py test_a_full_node_is_4100_and_without_pong_4201
        test_closing.py test_a_draining_node_sends_clients_to_the_other
        test_bad_input.py test_client_events_beyond_the_rate_are_4301_and_no_end
    """,
    "pusher-js: pings are answered, also under load": """
        test_pusher_js.py test_pings_are_answered
        test_pusher_js.py test_pings_are_answered_under_load
    """,
    "pusher-js: each subscribe is answered once; presence acks carry hash and count": """
        test_pusher_js.py test_each_subscribe_is_answered_once
        test_pusher_js.py test_presence_acks_have_ids_hash_and_count_of_users
        test_pusher_js.py test_a_duplicate_subscribe_is_answered_and_is_no_second_member
    """,
    "pusher-js: members come and go once per user, never for self, never before the ack": """
        test_pusher_js.py test_members_come_and_go_once_for_each_user
        test_presence.py test_coming_and_going_of_one_user_on_both_nodes_is_told_in_pairs
        test_presence.py test_the_members_of_a_killed_node_are_removed_once
    """,
    "pusher-js: client events are relayed without echo, with user_id in presence channels alone": """
        test_pusher_js.py test_client_events_are_relayed_without_echo
        test_pusher_js.py test_the_sender_of_a_client_event_is_known_in_presence_channels
        test_pusher_js.py test_what_else_a_client_event_holds_is_dropped
    """,
    "pusher-js: signin_success has the original string; the inbox opens after it and only then": """
        test_pusher_js.py test_signing_in_opens_the_inbox
        test_pusher_js.py test_the_inbox_is_for_the_user_alone
    """,
    "pusher-js: watchlist and error frames have no channel; events is an array": """
        test_pusher_js.py test_watchlists_tell_who_is_online
        test_pusher_js.py test_a_watchlist_over_the_limit_is_cut
        test_bad_input.py test_frames_that_mean_nothing_are_an_error_and_no_end
    """,
    "pusher-js: a reconnect storm of subscribes is admitted": """
        test_pusher_js.py test_a_reconnect_storm_is_admitted
    """,
    "pusher-js: event data passes through unmodified": """
        test_pusher_js.py test_event_data_comes_byte_for_byte
        test_pusher_js.py test_events_come_as_they_were_meant
        test_pusher_js.py test_encrypted_events_are_opaque
    """,
    "Echo: each kind of channel; leave unsubscribes all four": """
        test_echo.py test_each_kind_of_channel
        test_echo.py test_encrypted_private_channels
        test_echo.py test_leave_unsubscribes_all_that_are_held
    """,
    "Echo: names of events with backslashes and dots; notifications": """
        test_echo.py test_each_kind_of_channel
        test_echo.py test_notifications
    """,
    "Echo: here has the values of hash; joining and leaving have user_info": """
        test_echo.py test_here_joining_and_leaving_have_the_members_info
    """,
    "Echo: whispers": """
        test_echo.py test_whispers
    """,
    "Echo: error is told of subscription_error, local or from the server": """
        test_echo.py test_error_is_told_of_a_refused_subscription
    """,
    "Echo: X-Socket-Id excludes across nodes": """
        test_echo.py test_the_socket_of_a_request_hears_nothing_of_it
    """,
    "Echo: connectionStatus maps states; unavailable shows as failed": """
        test_echo.py test_connection_status
        test_echo.py test_an_unreachable_gateway_shows_as_failed
    """,
    "PyPI: app ids of digits, host and port": """
        test_pypi.py test_trigger_on_a_hundred_channels
    """,
    "PyPI: GETs with the MD5 of nothing; commas and =@,.; in query values": """
        test_pypi.py test_channels_info
        test_pypi.py test_channel_info
    """,
    "PyPI: every 200 has a JSON body; 400, 401 and 403": """
        test_pypi.py test_refusals_are_its_errors
        test_bad_input.py test_events_that_are_none
    """,
    "PyPI: trigger, trigger_batch, send_to_user, the questions, terminate on its app-less path": """
        test_pypi.py test_trigger_on_a_hundred_channels
        test_pypi.py test_batches_with_socket_id_and_info
        test_pypi.py test_send_to_user_reaches_every_tab
        test_pypi.py test_channels_info
        test_pypi.py test_channel_info
        test_pypi.py test_users_info
        test_pypi.py test_terminate_user_connections
    """,
    "PyPI: validate_webhook takes ours; shared_secret is bytes": """
        test_pypi.py test_validate_webhook_takes_ours
        test_pypi.py test_encrypted_channels
    """,
}

HERE = Path(__file__).parent


@pytest.mark.parametrize("tests", ROWS.values(), ids=ROWS)
def test_each_row_has_tests(tests: str) -> None:
    for line in tests.split("\n"):
        for file, name in [line.split()] if line.strip() else []:
            assert re.search(rf"^(async )?def {name}\(", (HERE / file).read_text(), re.MULTILINE), line.strip()
