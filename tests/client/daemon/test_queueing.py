"""Order, bounds, cancelling, deadlines and stopping, with a painter that a test steers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client.job_queue import Limits
from client.studio_client import CallError, Client, Progress
from shared_model.errors import InputError


class Call:
    """One `stylize` in a thread."""

    def __init__(self, client: Client, name: str, **options: Any) -> None:
        self.outcome: Any = None
        self._work: Callable[[], Any] = lambda: client.stylize(name.encode(), head="tiny", patience_s=0, **options)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self._work()
        except Exception as error:
            self.outcome = error

    def join(self) -> Any:
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.outcome


def eventually(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_pictures_are_dealt_out_in_turn_between_clients(launch: Any, gated: Any) -> None:
    running = launch(gated)
    with running.client("many") as many, running.client("one") as one:
        calls = [Call(many, "many 0")]
        eventually(lambda: gated.begun == ["many 0"])
        for number in range(1, 8):
            calls.append(Call(many, f"many {number}"))
            eventually(lambda: running.daemon.painting.waiting == len(calls) - 1)
        calls.append(Call(one, "one"))
        eventually(lambda: running.daemon.painting.waiting == 8)
        gated.gate.release(9)
        for call in calls:
            assert call.join().data
    assert gated.ended.index("one") <= 2, "after the running one and at most one more"
    assert running.idle()


def test_a_full_queue_says_when_to_come_back_and_leaves_room_for_others(launch: Any, gated: Any) -> None:
    running = launch(gated, painting=Limits(calls=3, calls_per_client=2))
    with running.client("greedy") as greedy, running.client("other") as other:
        calls = [Call(greedy, "a"), Call(greedy, "b")]
        eventually(lambda: running.daemon.painting.calls == 2)
        refused = Call(greedy, "c").join()
        assert isinstance(refused, CallError) and refused.code == "RESOURCE_EXHAUSTED"
        assert refused.retry_after_s > 0 and "try again in" in refused.hint
        calls.append(Call(other, "d"))
        eventually(lambda: running.daemon.painting.calls == 3)
        gated.gate.release(3)
        assert all(call.join().data for call in calls)


def test_a_client_with_patience_comes_back_by_itself(launch: Any, gated: Any) -> None:
    running = launch(gated, painting=Limits(calls=1, calls_per_client=1))
    with running.client("a") as client:
        first = Call(client, "first")
        eventually(lambda: gated.begun == ["first"])
        gated.gate.release(2)
        assert client.stylize(b"second", head="tiny", patience_s=20).data == b"second"
        assert first.join().data == b"first"


def test_a_cancelled_call_is_dropped_while_it_runs_and_before_it_starts(launch: Any, gated: Any) -> None:
    class Enough(Exception):
        pass

    def leaves(when: threading.Event) -> Callable[[Progress], None]:
        def leave(news: Progress) -> None:
            if when.wait(30):
                raise Enough

        return leave

    painted, queued = threading.Event(), threading.Event()
    running = launch(gated)
    with running.client() as client, running.client() as other:
        first = Call(client, "running", progress=leaves(painted))
        eventually(lambda: gated.begun == ["running"])
        second = Call(client, "waiting", progress=leaves(queued))
        eventually(lambda: running.daemon.painting.waiting == 1)
        queued.set()  # the one that waits leaves before the place is free, or it would rightly begin
        assert isinstance(second.join(), Enough)
        eventually(lambda: running.daemon.painting.calls == 1)
        painted.set()
        assert isinstance(first.join(), Enough)
        assert running.idle(), "both places are free again though nothing was let through the gate"
        gated.gate.release(1)
        assert other.stylize(b"other", head="tiny").data == b"other"
    assert gated.ended == ["other"] and "waiting" not in gated.begun


def test_work_whose_deadline_passes_while_it_waits_never_starts(launch: Any, gated: Any) -> None:
    running = launch(gated)
    with running.client() as client:
        first = Call(client, "first")
        eventually(lambda: gated.begun == ["first"])
        late = Call(client, "late", timeout_s=0.3).join()
        assert isinstance(late, CallError) and late.code == "DEADLINE_EXCEEDED"
        gated.gate.release(2)
        assert first.join().data
        assert client.stylize(b"next", head="tiny").data
    assert gated.begun == ["first", "next"]


def test_a_connection_that_breaks_takes_its_work_with_it(launch: Any, gated: Any) -> None:
    running = launch(gated)
    client = running.client()
    calls = [Call(client, "a"), Call(client, "b")]
    eventually(lambda: running.daemon.painting.calls == 2 and len(gated.begun) == 1)
    client.close()
    for call in calls:
        assert isinstance(call.join(), Exception)
    assert running.idle()
    assert not gated.ended


def test_health_and_version_are_answered_while_a_picture_is_painted(launch: Any, gated: Any) -> None:
    running = launch(gated)
    with running.client() as client, running.channel() as channel:
        call = Call(client, "slow")
        eventually(lambda: gated.begun == ["slow"])
        assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1
        gated.gate.release(1)
        assert call.join().data


def test_an_error_nobody_thought_of_tells_nothing_and_ends_nothing(
    launch: Any, gated: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    running = launch(gated)
    gated.failure = ZeroDivisionError("in /srv/secret/place")
    gated.gate.release(2)
    with running.client() as client:
        for ask in (lambda: client.stylize(b"x", head="tiny"), client.version):
            with pytest.raises(CallError) as caught:
                ask()
            assert caught.value.code == "INTERNAL"
            text = caught.value.message + caught.value.hint
            assert "secret" not in text and "Error" not in text and "Traceback" not in text
        gated.failure = None
        gated.gate.release(1)
        assert client.stylize(b"y", head="tiny").data == b"y"
    assert "ZeroDivisionError" in capfd.readouterr().err, "the owner's own log says what it was"


def test_paths_in_messages_are_left_out(launch: Any, gated: Any, own_home: Any) -> None:
    running = launch(gated)
    gated.failure = InputError(f"cannot write {own_home}/heads/x y.head or /srv/a/b", hint=f"look at {own_home}")
    gated.gate.release(1)
    with running.client() as client, pytest.raises(InputError) as caught:
        client.stylize(b"x", head="tiny")
    assert str(own_home) not in caught.value.message + caught.value.hint
    assert "/srv" not in caught.value.message and "<home>" in caught.value.hint


def test_stopping_lets_the_running_picture_finish_and_refuses_the_waiting_ones(launch: Any, gated: Any) -> None:
    running = launch(gated)
    with running.client() as client:
        first = Call(client, "first")
        eventually(lambda: gated.begun == ["first"])
        waiting = Call(client, "waiting")
        eventually(lambda: running.daemon.painting.waiting == 1)
        running.stop()
        refused = waiting.join()
        assert isinstance(refused, CallError) and refused.code == "UNAVAILABLE" and "stopping" in refused.message
        assert running.thread.is_alive()
        gated.gate.release(1)
        assert first.join().data == b"first"
    running.thread.join(10)
    assert not running.thread.is_alive()


def test_a_picture_that_takes_longer_than_the_grace_is_given_up(launch: Any, gated: Any) -> None:
    running = launch(gated, grace_s=0.2)
    with running.client() as client:
        call = Call(client, "stuck")
        eventually(lambda: gated.begun == ["stuck"])
        running.stop()
        assert isinstance(call.join(), CallError)
    running.thread.join(10)
    assert not running.thread.is_alive() and not gated.ended


def test_told_twice_it_stops_at_once(launch: Any, gated: Any) -> None:
    running = launch(gated, grace_s=60.0)
    with running.client() as client:
        call = Call(client, "stuck")
        eventually(lambda: gated.begun == ["stuck"])
        running.stop()
        time.sleep(0.3)
        running.stop()
        assert isinstance(call.join(), CallError)
    running.thread.join(10)
    assert not running.thread.is_alive()


def test_an_upload_that_stands_still_loses_its_place(launch: Any, gated: Any) -> None:
    running = launch(gated, idle_s=0.3)
    forever = threading.Event()

    def stalled() -> Any:
        from protos import studio_pb2 as pb

        yield pb.StylizeRequest(start=pb.StylizeStart(head="tiny")).SerializeToString()
        forever.wait(20)

    with running.channel() as channel:
        call = channel.stream_stream("/easel.studio.v1.Painter/Stylize")(stalled())
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        forever.set()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT and "stands still" in caught.value.details()
    assert running.idle()
