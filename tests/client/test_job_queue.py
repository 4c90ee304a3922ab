from __future__ import annotations

import threading
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import given

from client.job_queue import BusyError, JobQueue, Limits
from client.jobs import DroppedError, Job, News


def noop(job: Job) -> None:
    return None


def put(queue: JobQueue, client: str, work: Callable[[Job], object] = noop, **more: object) -> Job:
    job = Job(client, work, **more)  # type: ignore[arg-type]
    queue.admit(client).submit(job)
    return job


def drain(queue: JobQueue) -> list[Job]:
    jobs = []
    while (job := queue.next(0.0)) is not None:
        jobs.append(job)
    return jobs


def test_a_hundred_jobs_of_one_client_do_not_starve_anothers_one() -> None:
    queue = JobQueue(Limits(calls=200, calls_per_client=150))
    many = [put(queue, "many") for _ in range(100)]
    one = put(queue, "one")
    order = drain(queue)
    assert order.index(one) <= 1
    assert [job for job in order if job.client == "many"] == many


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_in_turn_among_clients_and_in_order_within_each(clients: list[str]) -> None:
    queue = JobQueue(Limits(calls=100, calls_per_client=100))
    jobs = [put(queue, client) for client in clients]
    order = drain(queue)
    assert sorted(map(id, order)) == sorted(map(id, jobs))
    for client in set(clients):
        assert [j for j in order if j.client == client] == [j for j in jobs if j.client == client]
    served: dict[str, int] = dict.fromkeys(clients, 0)
    for job in order:
        waiting = {c for c in served if served[c] < clients.count(c)}
        assert served[job.client] == min(served[c] for c in waiting), "nobody gets a second turn before all had one"
        served[job.client] += 1


def test_one_client_cannot_take_all_places() -> None:
    queue = JobQueue(Limits(calls=4, calls_per_client=3))
    tickets = [queue.admit("greedy") for _ in range(3)]
    with pytest.raises(BusyError) as caught:
        queue.admit("greedy")
    assert caught.value.retry_after_s > 0
    assert "try again in" in caught.value.hint
    queue.admit("other").close()
    tickets[0].close()
    tickets[0].close()
    queue.admit("greedy")
    assert queue.calls == 3


def test_all_clients_together_are_bounded() -> None:
    queue = JobQueue(Limits(calls=3, calls_per_client=2))
    for client in "abc":
        queue.admit(client)
    with pytest.raises(BusyError, match="3 calls are under way"):
        queue.admit("d")


def test_uploads_of_all_clients_are_bounded() -> None:
    queue = JobQueue(Limits(held_bytes=100))
    with queue.admit("a") as ticket:
        ticket.hold(60)
        with pytest.raises(BusyError, match="fill the memory"):
            queue.admit("b").hold(41)
    queue.admit("b").hold(100)


def test_a_call_that_ends_takes_its_waiting_job_out_of_the_line() -> None:
    queue = JobQueue()
    ticket = queue.admit("a")
    job = Job("a", noop)
    ticket.submit(job)
    ticket.close()
    assert isinstance(job.result.exception(0), DroppedError)
    assert queue.next(0.0) is None
    assert not queue.calls


def test_a_job_whose_deadline_passed_while_it_waited_is_dropped_before_it_starts() -> None:
    now = 0.0
    queue = JobQueue(clock=lambda: now)
    late = put(queue, "a", deadline=5.0, clock=lambda: now)
    good = put(queue, "a")
    now = 6.0
    assert queue.next(0.0) is good
    assert isinstance(late.result.exception(0), DroppedError)


def test_waiting_jobs_hear_how_many_come_before_them() -> None:
    heard: dict[str, list[int]] = {"first": [], "second": [], "other": []}

    def listener(name: str) -> Callable[[News], None]:
        return lambda news: heard[name].append(news.ahead)

    queue = JobQueue()
    put(queue, "a", tell=listener("first"))
    put(queue, "a", tell=listener("second"))
    put(queue, "b", tell=listener("other"))
    assert {name: places[-1] for name, places in heard.items()} == {"first": 0, "other": 1, "second": 2}
    queue.next(0.0)
    assert {name: places[-1] for name, places in heard.items()} == {"first": 0, "other": 1, "second": 2}
    queue.next(0.0)
    assert heard["second"][-1] == 1, "the one that runs counts"


def test_closing_drops_what_waits_and_lets_the_running_job_finish() -> None:
    queue = JobQueue()
    running = put(queue, "a", lambda job: job.check() or "done")
    assert queue.next(0.0) is running
    waiting = put(queue, "a")
    queue.close()
    running.run()
    assert running.result.result(0) == "done"
    error = waiting.result.exception(0)
    assert isinstance(error, DroppedError) and error.why == "stopping"
    with pytest.raises(DroppedError, match="stopping"):
        queue.admit("a")


def test_closing_in_earnest_reaches_the_running_job_too() -> None:
    queue = JobQueue()
    running = put(queue, "a", lambda job: job.check())
    queue.next(0.0)
    queue.close(running=True)
    running.run()
    assert isinstance(running.result.exception(0), DroppedError)


def test_a_worker_survives_failing_work_and_ends_when_the_queue_is_closed() -> None:
    queue = JobQueue()
    worker = threading.Thread(target=queue.work, daemon=True)
    worker.start()
    assert isinstance(put(queue, "a", lambda job: 1 / 0).result.exception(5), ZeroDivisionError)
    assert put(queue, "a", lambda job: 2).result.result(5) == 2
    queue.close()
    worker.join(5)
    assert not worker.is_alive()
