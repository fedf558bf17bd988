"""The attribution of crashes: pages that kill are condemned; healthy ones survive deaths from outside."""

import random

import pytest
from dotsctl.client.runtime.crash_attribution import MAX_EXTRA_DEATHS, REMEMBERED_S, SOLO_DEATHS, CrashAttribution
from dotsctl.client.runtime.request import Request
from dotsctl.protocol.messages import Submit
from dotsctl.protocol.parts import ImageHeader, ImageKind, PageOptions

IMAGE = ImageHeader(ImageKind.FILE, 1, 280, 280)
OPTIONS = PageOptions("text", None, None, None)


def request(number: int) -> Request:
    return Request(number, b"client", Submit("job", number, str(number), (IMAGE,), OPTIONS, False), [], accepted_at=0.0)


def die_alone(crashes: CrashAttribution, page: Request) -> None:
    crashes.died([page], [page], alone=True)


def test_where_every_death_is_explained_two_while_isolated_condemn() -> None:
    crashes, batch = CrashAttribution(), [request(number) for number in range(8)]
    crashes.died(batch, batch, alone=False)
    assert all(page.suspect and not crashes.is_poison(page, 1.0) for page in batch)
    for page in batch[1:]:
        crashes.cleared(page, 2.0)
    for deaths in range(SOLO_DEATHS):
        assert not crashes.is_poison(batch[0], 3.0 + deaths)
        die_alone(crashes, batch[0])
    assert crashes.is_poison(batch[0], 5.0)
    crashes.gone(batch[0])
    assert crashes.extra_deaths(6.0) == 0, "its own deaths are explained"


def test_a_death_whose_suspects_are_all_read_makes_the_next_verdict_harder() -> None:
    crashes, innocent, unlucky = CrashAttribution(), request(1), request(2)
    die_alone(crashes, innocent)
    crashes.cleared(innocent, 1.0)
    for _ in range(SOLO_DEATHS):
        die_alone(crashes, unlucky)
    assert not crashes.is_poison(unlucky, 2.0)
    die_alone(crashes, unlucky)
    assert crashes.is_poison(unlucky, 2.0)
    assert crashes.extra_deaths(1.0 + REMEMBERED_S + 1) == 0, "an old death does not count"


def test_a_page_that_kills_is_condemned_at_last_however_many_deaths_have_no_reason() -> None:
    crashes, page = CrashAttribution(), request(0)
    for number in range(1, 50):
        other = request(number)
        die_alone(crashes, other)
        crashes.cleared(other, 1.0)
    deaths = 0
    while not crashes.is_poison(page, 2.0):
        die_alone(crashes, page)
        deaths += 1
    assert deaths == SOLO_DEATHS + MAX_EXTRA_DEATHS


@pytest.mark.parametrize("ended", ["cancelled", "condemned"])
def test_a_page_that_ends_otherwise_leaves_its_deaths_explained(ended: str) -> None:
    crashes, page, other = CrashAttribution(), request(1), request(2)
    crashes.died([page, other], [page, other], alone=False)
    crashes.gone(page)
    crashes.cleared(other, 1.0)
    assert crashes.extra_deaths(1.0) == 0, ended


def test_random_deaths_condemn_hardly_any_healthy_page() -> None:
    """A tenth of all isolated pages dies by chance; two deaths alone would condemn one in a hundred of them."""
    rng, crashes, condemned = random.Random(8), CrashAttribution(), 0
    for number in range(5000):
        page = request(number)
        while rng.random() < 0.1:
            die_alone(crashes, page)
            if crashes.is_poison(page, float(number) / 10):
                condemned += 1
                crashes.gone(page)
                break
        else:
            crashes.cleared(page, float(number) / 10)
    assert condemned <= 1, f"{condemned} of 5000"
