from gateway.session.pusher.bucket import Bucket


def test_so_many_at_once_and_so_many_a_second() -> None:
    bucket = Bucket(2, 0.0)
    assert [bucket.take(2, 0.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(2, 0.5) for _ in range(2)] == [True, False]
    assert [bucket.take(2, 100.0) for _ in range(3)] == [True, True, False]


def test_another_rate_holds_at_once() -> None:
    bucket = Bucket(10, 0.0)
    assert [bucket.take(1, 0.0) for _ in range(2)] == [True, False]
