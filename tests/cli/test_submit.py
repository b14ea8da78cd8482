"""What ``pointsman submit`` shows while it runs."""

from router.batch.submit import Progress
from router.cli.submit import Rate


def test_the_rate_of_a_job_counts_from_its_first_result_and_not_what_was_there_before():
    now_s = [100.0]
    rate, job = Rate(lambda: now_s[0]), Progress(total=1000, done=400)
    assert rate.of(job) == 0
    now_s[0] += 60  # nothing came yet: this is waiting, not the rate of what comes
    assert rate.of(job) == 0
    now_s[0] += 2
    job.done = 500
    assert rate.of(job) == 50


def test_one_display_serves_one_job_after_the_other():
    now_s = [100.0]
    rate = Rate(lambda: now_s[0])
    for count in (1000, 300):
        job = Progress(total=count)
        assert rate.of(job) == 0
        now_s[0] += 1
        job.done = count
        assert rate.of(job) == count
        now_s[0] += 60
