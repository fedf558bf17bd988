"""Whose fault a death is: pages that kill are condemned soon, healthy ones not even where deaths come from outside."""

import random

import pytest
from dotsctl.client.runtime.blame import MAX_EXTRA_DEATHS, REMEMBERED_S, SOLO_DEATHS, Blame
from dotsctl.client.runtime.request import Request
from dotsctl.protocol.messages import Submit
from dotsctl.protocol.parts import ImageHeader, ImageKind, PageOptions

IMAGE = ImageHeader(ImageKind.FILE, 1, 280, 280)
OPTIONS = PageOptions("text", None, None, None, "")


def request(number: int) -> Request:
    return Request(number, b"client", Submit("job", number, str(number), (IMAGE,), OPTIONS, False), [], accepted_at=0.0)


def die_alone(blame: Blame, page: Request) -> None:
    blame.died([page], [page], alone=True)


def test_where_every_death_is_explained_two_lonely_ones_condemn() -> None:
    blame, batch = Blame(), [request(number) for number in range(8)]
    blame.died(batch, batch, alone=False)
    assert all(page.suspect and not blame.is_poison(page, 1.0) for page in batch)
    for page in batch[1:]:
        blame.cleared(page, 2.0)
    for deaths in range(SOLO_DEATHS):
        assert not blame.is_poison(batch[0], 3.0 + deaths)
        die_alone(blame, batch[0])
    assert blame.is_poison(batch[0], 5.0)
    blame.gone(batch[0])
    assert blame.extra_deaths(6.0) == 0, "its own deaths are explained"


def test_a_death_whose_suspects_are_all_read_makes_the_next_verdict_harder() -> None:
    blame, innocent, unlucky = Blame(), request(1), request(2)
    die_alone(blame, innocent)
    blame.cleared(innocent, 1.0)
    for _ in range(SOLO_DEATHS):
        die_alone(blame, unlucky)
    assert not blame.is_poison(unlucky, 2.0)
    die_alone(blame, unlucky)
    assert blame.is_poison(unlucky, 2.0)
    assert blame.extra_deaths(1.0 + REMEMBERED_S + 1) == 0, "long ago it says nothing about today"


def test_a_page_that_kills_is_condemned_at_last_however_many_deaths_have_no_reason() -> None:
    blame, page = Blame(), request(0)
    for number in range(1, 50):
        other = request(number)
        die_alone(blame, other)
        blame.cleared(other, 1.0)
    deaths = 0
    while not blame.is_poison(page, 2.0):
        die_alone(blame, page)
        deaths += 1
    assert deaths == SOLO_DEATHS + MAX_EXTRA_DEATHS


@pytest.mark.parametrize("ended", ["cancelled", "condemned"])
def test_a_page_that_ends_otherwise_leaves_its_deaths_explained(ended: str) -> None:
    blame, page, other = Blame(), request(1), request(2)
    blame.died([page, other], [page, other], alone=False)
    blame.gone(page)
    blame.cleared(other, 1.0)
    assert blame.extra_deaths(1.0) == 0, ended


def test_random_deaths_condemn_hardly_a_healthy_page() -> None:
    """A tenth of all lonely pages dies by chance; two deaths alone would condemn one in a hundred of them."""
    rng, blame, condemned = random.Random(8), Blame(), 0
    for number in range(5000):
        page = request(number)
        while rng.random() < 0.1:
            die_alone(blame, page)
            if blame.is_poison(page, float(number) / 10):
                condemned += 1
                blame.gone(page)
                break
        else:
            blame.cleared(page, float(number) / 10)
    assert condemned <= 1, f"{condemned} of 5000"
