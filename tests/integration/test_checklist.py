"""What the official SDKs' own suites rely on, row by row, and the tests that have it.

Where nothing else is said, a test runs with each SDK, over each of its transports and in each encoding, on two gateways
on a Redis, and with some in memory.
"""

import re
from pathlib import Path

import pytest

ROWS = {
    "one client connects again and again, also in the same tick, also before its transport is open": """
        integration/test_sdk_connection.py test_one_client_connects_again_and_again
        integration/test_sdk_connection.py test_a_client_changes_its_mind_in_the_same_tick
        integration/test_sdk_connection.py test_a_client_leaves_before_its_connection_is_open
    """,
    "the connect result has version, client, ping and pong": """
        integration/test_sdk_connection.py test_the_connect_reply_tells_what_clients_need
        integration/test_sdk_connection.py test_pings_keep_connections_open
        integration/test_features.py test_first_frames
        protocols/test_centrifuge_protobuf.py test_results
    """,
    "commands queued before connect are sent and answered": """
        integration/test_sdk_connection.py test_commands_given_before_the_connection_are_answered
    """,
    "subscribing and unsubscribing in a row, and before the reply; nobody is present after the last": """
        integration/test_sdk_subscription.py test_coming_and_going_many_times
        integration/test_sdk_subscription.py test_leaving_before_having_arrived
    """,
    "unsubscribing immediately after connect; a removed subscription and a new one": """
        integration/test_sdk_subscription.py test_a_subscription_is_removed_and_made_anew
    """,
    "a client's publication comes back with its own info, and unchanged": """
        integration/test_sdk_subscription.py test_payloads_come_back_unchanged
        integration/test_protobuf.py test_bytes_reach_those_who_speak_protobuf
    """,
    "a call without handler is error 108, before and after connect": """
        integration/test_sdk_connection.py test_commands_given_before_the_connection_are_answered
        integration/test_sdk_connection.py test_rpc_without_a_handler
    """,
    "tokens: anonymous, by callback, failing first, expired, invalid, of one subscription, of many": """
        integration/test_sdk_connection.py test_anonymous_tokens_without_expiry
        integration/test_sdk_connection.py test_tokens_come_from_a_callback_that_may_fail_at_first
        integration/test_sdk_connection.py test_an_expired_token_is_fetched_anew
        integration/test_sdk_connection.py test_an_invalid_token_is_the_end
        integration/test_sdk_connection.py test_a_user_without_token_stays_outside
        integration/test_sdk_subscription.py test_an_invalid_subscription_token_ends_that_subscription_alone
        integration/test_sdk_subscription.py test_an_expired_subscription_token_is_fetched_anew
        integration/test_sdk_subscription.py test_an_expired_token_at_refresh_is_fetched_anew
        integration/test_sdk_subscription.py test_many_subscriptions_each_with_its_token
    """,
    "connections and subscriptions are refreshed repeatedly": """
        integration/test_sdk_connection.py test_tokens_are_refreshed_again_and_again
    """,
    "a personal channel": """
        integration/test_sdk_connection.py test_a_user_has_a_channel_of_its_own
    """,
    "presence and its stats of two; join and leave": """
        integration/test_messages.py test_presence_lists_the_clients_of_both
        integration/test_messages.py test_join_and_leave_are_seen_by_the_other
    """,
    "history: position alone, pages forward and backward, since": """
        integration/test_messages.py test_history_is_read_from_both
        integration/test_sdk_subscription.py test_history_page_by_page
        integration/test_sdk_subscription.py test_history_without_end_is_cut
    """,
    "recovery after each kind of absence; too much missed": """
        integration/test_sdk_subscription.py test_recovery_after_each_kind_of_absence
        integration/test_sdk_subscription.py test_what_history_no_longer_holds_is_not_pretended
        integration/test_messages.py test_a_client_recovers_on_the_other_gateway_what_it_missed
    """,
    "a zero position recovers all": """
        integration/test_sdk_subscription.py test_the_beginning_of_a_stream_is_a_position
        integration/test_sdk_compact.py test_state_is_loaded_once_and_not_where_recovery_does
    """,
    "a lost position with the reject flag is error 112, and the state is loaded anew": """
        integration/test_sdk_subscription.py test_positions_that_are_lost_may_be_refused
        integration/test_sdk_compact.py test_state_is_loaded_again_where_too_much_was_missed
    """,
    "delta: patches, equal and much smaller payloads, after recovery": """
        integration/test_sdk_varied.py test_patches_live_and_after_a_return
        integration/test_sdk_varied.py test_patches_of_what_hardly_changes_and_of_what_shrinks
        integration/test_features.py test_delta
    """,
    "disconnect codes of each class; unsubscribe codes; 2502 and 3014": """
        integration/test_api.py test_some_codes_let_clients_return
        integration/test_api.py test_others_keep_them_out
        integration/test_api.py test_invalidated_state_is_fetched_anew
        integration/test_sdk_subscription.py test_an_expired_token_at_refresh_is_fetched_anew
        integration/test_sdk_maps.py test_a_cleared_map_is_loaded_anew
        integration/test_protobuf.py test_unsubscribe_codes_mean_what_they_say
    """,
    "a server restarts, or a connection is lost: all subscriptions come back": """
        integration/test_sdk_connection.py test_after_a_loss_all_subscriptions_come_back
        integration/test_failover.py test_the_clients_of_a_killed_gateway_move_and_recover
    """,
    "no ping in time: clients connect anew; pings of WebSocket are answered": """
        integration/test_sdk_connection.py test_without_pings_clients_look_for_another_server
        integration/test_sdk_connection.py test_pings_keep_connections_open
    """,
    "what is no command, or comes before connect, is 3501": """
        integration/test_bad_input.py test_protocol_violations_end_the_connection
        transports/test_protobuf.py test_what_is_no_command_closes
    """,
    "what is too large is 1009, and the end": """
        integration/test_sdk_connection.py test_messages_over_the_limit_end_the_connection
        integration/test_sdk_connection.py test_over_http_they_are_refused_alone
    """,
    "emulation through a proxy of HTTP alone, on any node; falling back by itself": """
        integration/test_emulation.py test_commands_go_to_another_node
        integration/test_emulation.py test_nobody_has_to_stick_to_a_node
        integration/test_emulation.py test_one_node_with_a_memory_engine
        integration/test_emulation.py test_the_sdk_falls_back_by_itself
        integration/test_emulation.py test_a_page_falls_back_by_itself
    """,
    "the server API by cent: each method, errors, batch, broadcast": """
        integration/test_api.py test_publish_stores_and_delivers
        integration/test_api.py test_broadcast_answers_for_each_channel
        integration/test_api.py test_subscribe_and_unsubscribe_reach_any_node
        integration/test_api.py test_disconnect_spares_the_whitelist
        integration/test_api.py test_refresh_sets_another_end
        integration/test_api.py test_presence_and_its_absence
        integration/test_api.py test_history_and_its_removal
        integration/test_api.py test_channels_and_info_count_both_nodes
        integration/test_api.py test_batch_answers_in_order
        integration/test_api.py test_errors_are_exceptions_of_the_client
        web/test_cent.py test_batch
    """,
}

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("tests", ROWS.values(), ids=ROWS)
def test_each_row_has_tests(tests: str) -> None:
    for line in tests.split("\n"):
        for file, name in [line.split()] if line.strip() else []:
            assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(), re.MULTILINE), line.strip()
