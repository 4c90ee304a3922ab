"""The queue: bounded, in order, stoppable, and never dead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from client.studio.jobs import BusyError, Job, Jobs
from shared_model.errors import InputError


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    queue = Jobs(limit=3)
    yield queue
    queue.close()


def _wait(job: Job, until: Callable[[Job], bool] = lambda job: job.over) -> Job:
    deadline = time.monotonic() + 10
    while not until(job):
        assert time.monotonic() < deadline, job
        time.sleep(0.002)
    return job


def test_work_is_done_in_order_with_progress_and_result(jobs: Jobs) -> None:
    done: list[int] = []

    def work(number: int) -> Callable[[Job], None]:
        def run(job: Job) -> None:
            job.advance(0.5, "half")
            done.append(number)
            job.result = {"number": number}

        return run

    last = [jobs.submit("paint", work(number)) for number in range(3)][-1]
    assert _wait(last).result == {"number": 2}
    assert done == [0, 1, 2]
    assert (last.state, last.progress, last.note) == ("done", 1.0, "half")
    assert jobs.get(last.id) is last and jobs.get("other") is None


def test_mistakes_and_accidents_end_a_job_and_nothing_else(jobs: Jobs) -> None:
    def mistake(job: Job) -> None:
        raise InputError("no such thing", hint="another")

    def accident(job: Job) -> None:
        raise ZeroDivisionError("division by zero")

    first, second = _wait(jobs.submit("paint", mistake)), _wait(jobs.submit("paint", accident))
    assert first.state == "failed" and first.error is not None and first.error.hint == "another"
    assert second.error is not None and "ZeroDivisionError" in second.error.message and "report" in second.error.hint
    assert _wait(jobs.submit("paint", lambda job: None)).state == "done"


def test_lanes_do_not_wait_for_each_other_and_each_is_bounded(jobs: Jobs) -> None:
    go = threading.Event()
    slow = jobs.submit("learn", lambda job: _until(go))
    _wait(slow, lambda job: job.state == "running")
    assert _wait(jobs.submit("preview", lambda job: None)).state == "done"
    waiting = [jobs.submit("learn", lambda job: None) for _ in range(3)]
    with pytest.raises(BusyError, match="hands full"):
        jobs.submit("learn", lambda job: None)
    assert jobs.waiting("learn") == 4
    go.set()
    assert [_wait(job).state for job in waiting] == ["done"] * 3


def test_only_the_newest_of_one_tab_is_done(jobs: Jobs) -> None:
    go = threading.Event()
    running = jobs.submit("preview", lambda job: _until(go), key="tab")
    _wait(running, lambda job: job.state == "running")
    other = jobs.submit("preview", lambda job: None, key="other tab")
    moved = [jobs.submit("preview", lambda job: None, key="tab") for _ in range(20)]
    go.set()
    assert _wait(moved[-1]).state == "done" and _wait(other).state == "done"
    assert [job.state for job in moved[:-1]] == ["stopped"] * 19
    assert _wait(running).state == "done"


def test_stopping_reaches_work_that_runs_and_work_that_waits(jobs: Jobs) -> None:
    go = threading.Event()

    def run(job: Job) -> None:
        job.on_stop(go.set)
        _until(go)

    running = jobs.submit("learn", run)
    waiting = jobs.submit("learn", lambda job: pytest.fail("must not run"))
    _wait(running, lambda job: job.state == "running")
    jobs.stop(waiting.id)
    assert waiting.state == "stopped"
    jobs.stop(running.id)
    assert _wait(running).state == "done" and running.stop_asked
    assert jobs.stop("unknown") is None


def test_old_jobs_are_forgotten(jobs: Jobs) -> None:
    first = _wait(jobs.submit("paint", lambda job: None))
    for _ in range(60):
        _wait(jobs.submit("paint", lambda job: None))
    assert jobs.get(first.id) is None


def _until(event: threading.Event) -> None:
    assert event.wait(10)
