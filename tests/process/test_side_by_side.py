"""Two encoders that stand side by side in one runtime, for pages that ask for one of them."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dotsctl import Client
from dotsctl.client.connection import launch
from dotsctl.client.connection.swap import swap_encoder
from dotsctl.client.settings.runtime_config import PluginChoice
from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.errors import CommandFailedError, DotsctlError, UsageError
from dotsctl.protocol.messages import Accepted, PageResult
from PIL import Image

from tests.conftest import Gate
from tests.process.conftest import NAME, START_S, Instance, dotsctl, submit

pytestmark = pytest.mark.process
FIRST, SECOND = "fake:encode_ms=0", "fake:encode_ms=1"
Named = Callable[..., Instance]


@pytest.fixture
def both(named: Named) -> Instance:
    return named(FIRST, "fake", SECOND)


@pytest.fixture
def client(both: Instance) -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def connect(encoder: str | None = None) -> Client:
        made.append(Client(name=NAME, encoder=encoder, timeout_s=START_S))
        return made[-1]

    yield connect
    for one in made:
        one.close()


def encoders(instance: Instance) -> list[tuple[str, str]]:
    return [(worker.name, worker.plugin) for worker in instance.status().workers]


def picture(number: int) -> Image.Image:
    return Image.new("RGB", (60, 60), (number, 90, 200))


def test_pages_go_to_the_encoder_that_was_requested_and_every_record_states_which(
    both: Instance, client: Callable[..., Client]
) -> None:
    assert encoders(both) == [("encoder", FIRST), ("encoder2", SECOND), ("decoder", "fake")]
    for asked, expected, count in ((None, FIRST, 2), (SECOND, SECOND, 3), (FIRST, FIRST, 1)):
        one = client(asked)
        assert one.encoder == expected
        pages = list(one.ocr([picture(number) for number in range(count)], check_blank=False))
        assert [page.encoder for page in pages] == [expected] * count and not any(page.error for page in pages)
    assert [worker.pages for worker in both.status().workers] == [3, 3, 6]


def test_an_encoder_that_the_runtime_has_not_is_refused_by_naming_those_that_it_has(
    both: Instance, client: Callable[..., Client]
) -> None:
    words = rf"uses encoder '{FIRST}' and '{SECOND}', but 'fake:encode_ms=7' was requested"
    with pytest.raises(UsageError, match=words):
        client("fake:encode_ms=7")
    both.session.open_job("job")
    message, content = submit("job", 0, b"page", encoder=2)
    both.session.send(message, content)
    with pytest.raises(DotsctlError, match="page 0 is for encoder 2; there are 2"):
        both.session.next_of("job", START_S)


def test_a_busy_encoder_holds_up_nobody_who_requests_the_other(named: Named, gates: list[Gate]) -> None:
    held_by = f"fake:gate={gates[0].path}"
    instance = named(FIRST, "fake", held_by)
    instance.session.open_job("held")
    for index in range(3):  # more than its credits
        instance.session.send(*submit("held", index, b"held %d" % index, encoder=1))
        assert isinstance(instance.session.next_of("held", START_S), Accepted)
    gates[0].wait_entered()
    contents = [b"page %d" % number for number in range(10)]
    answers = instance.read_in_background(contents, job="free")()
    assert [answers[index].text for index in range(10)] == list(map(fake_text, contents))  # type: ignore[attr-defined]
    gates[0].remove()
    gates[0].open()
    held = [instance.session.next_of("held", START_S) for _ in range(3)]
    assert {(each.encoder, each.text) for each in held if isinstance(each, PageResult)} == {
        (held_by, fake_text(b"held %d" % index)) for index in range(3)
    }


def test_the_death_of_one_encoder_costs_the_pages_of_the_other_nothing(
    named: Named, gates: list[Gate], tmp_path: Path
) -> None:
    instance = named(f"fake:gate={gates[0].path}", "fake", SECOND)
    first = instance.read_in_background([b"held"], job="held")
    gates[0].wait_entered()
    os.kill(next(worker.pid for worker in instance.status().workers if worker.place == 1), signal.SIGKILL)
    instance.wait_status(lambda status: status.workers[1].restarts == 1, "the restart of the second encoder")
    gates[0].remove()
    gates[0].open()
    held = first()[0]
    assert isinstance(held, PageResult) and (held.attempt, held.text) == (1, fake_text(b"held"))
    with Client(name=NAME, encoder=SECOND, timeout_s=START_S) as client:
        (page,) = client.ocr([picture(1)], check_blank=False)
        assert page.encoder == SECOND and not page.error


def test_a_swap_replaces_the_encoder_of_its_slot_alone(both: Instance) -> None:
    before = [worker.pid for worker in both.status().workers]
    assert swap_encoder(NAME, PluginChoice.parse("fake"), START_S, slot=1) == "fake"
    assert encoders(both) == [("encoder", FIRST), ("encoder2", "fake"), ("decoder", "fake")]
    after = [worker.pid for worker in both.status().workers]
    assert (after[0], after[2]) == (before[0], before[2]) and after[1] != before[1]
    with pytest.raises(CommandFailedError, match=f"{FIRST} stays in use: fake already runs in another slot"):
        swap_encoder(NAME, PluginChoice.parse("fake"), START_S)
    with pytest.raises(CommandFailedError, match=r"encoder slot 2 does not exist: the runtime has .* fake"):
        swap_encoder(NAME, PluginChoice.parse("fake"), START_S, slot=2)


def test_up_starts_both_and_ocr_uses_the_one_that_it_names(run_folder: Path, tmp_path: Path) -> None:
    picture(5).save(tmp_path / "page.png")
    up = dotsctl("up", "-d", "--name", NAME, "--encoder", FIRST, "--encoder", SECOND, "--decoder", "fake")
    _, err = up.communicate(timeout=START_S)
    assert up.returncode == 0 and f"encoder {FIRST} and {SECOND}, decoder fake" in err
    try:
        words = ("--name", NAME, "--no-blank-check", "-f", "json")
        for encoder, chosen in ((FIRST, ()), (SECOND, ("--encoder", SECOND))):
            ocr = dotsctl("ocr", str(tmp_path / "page.png"), *words, *chosen)
            out, err = ocr.communicate(timeout=START_S)
            assert ocr.returncode == 0 and f'"encoder": "{encoder}"' in out, err
        status, _ = dotsctl("status", "--name", NAME).communicate(timeout=START_S)
        assert f"\nencoder2  {SECOND}: ready" in status
        log, _ = dotsctl("logs", "encoder2", "--name", NAME).communicate(timeout=START_S)
        assert "fake" in log
        swap = dotsctl("swap", "encoder2", "fake", "--name", NAME)
        assert swap.communicate(timeout=START_S)[1] == "'test' now uses encoder2 fake\n"
    finally:
        launch.stop(NAME, now=True, timeout_s=10)


def test_up_refuses_the_same_encoder_twice_and_too_many(run_folder: Path) -> None:
    for given, words in (([SECOND] * 2, "given twice"), ([f"fake:encode_ms={n}" for n in range(5)], "at most 4")):
        up = dotsctl("up", "-d", "--decoder", "fake", *(word for name in given for word in ("--encoder", name)))
        _, err = up.communicate(timeout=START_S)
        assert up.returncode == 2 and words in err
