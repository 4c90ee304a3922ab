from __future__ import annotations

import pytest

from client.jobs import DroppedError, Job, News


def test_a_job_settles_its_result() -> None:
    job = Job("a", lambda job: 7)
    job.run()
    assert job.result.result(0) == 7


def test_an_error_of_the_work_is_the_results_and_leaves_the_worker_alone() -> None:
    job = Job("a", lambda job: 1 / 0)
    job.run()
    assert isinstance(job.result.exception(0), ZeroDivisionError)


def test_a_cancelled_job_is_never_started() -> None:
    started: list[int] = []
    job = Job("a", lambda job: started.append(1))
    job.cancel()
    job.run()
    assert not started
    with pytest.raises(DroppedError) as caught:
        job.result.result(0)
    assert caught.value.why == "cancelled"


@pytest.mark.parametrize(("now", "late"), [(4.9, ""), (5.0, "late"), (6.0, "late")])
def test_a_deadline_that_has_passed_drops_the_job(now: float, late: str) -> None:
    job = Job("a", lambda job: 1, deadline=5.0, clock=lambda: now)
    assert job.dropped == late
    job.run()
    assert isinstance(job.result.exception(0), DroppedError) == bool(late)


def test_work_finds_out_between_its_stages_that_nobody_waits() -> None:
    stages: list[str] = []

    def work(job: Job) -> None:
        job.report("reading", 0.0)
        job.cancel()
        job.report("painting", 0.5)

    job = Job("a", work, tell=lambda news: stages.append(news.stage))
    job.run()
    assert stages == ["reading"]
    assert isinstance(job.result.exception(0), DroppedError)


def test_the_first_reason_stays() -> None:
    job = Job("a", lambda job: 1, deadline=0.0)
    job.cancel("stopping")
    job.cancel("cancelled")
    assert job.dropped == "stopping"


def test_a_settled_job_lets_go_of_its_work() -> None:
    upload = bytes(10)
    job = Job("a", lambda job: upload)
    before = job.work
    job.run()
    assert job.work is not before


def test_news_carry_where_it_stands() -> None:
    told: list[News] = []
    Job("a", lambda job: job.report("tuning", 0.5, loss=0.25), tell=told.append).run()
    assert told == [News("tuning", 0.5, loss=0.25)]
