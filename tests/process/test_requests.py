"""Requests that are more than one plain page: several images in one prompt, blank pages, memory that runs out."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

from dotsctl.decoder_worker.plugins.fake import fake_text
from dotsctl.protocol.errors import ErrorCode
from dotsctl.protocol.messages import PageFailed, PageResult, Restarted, Submit
from dotsctl.protocol.parts import FinishReason, ImageHeader, ImageKind

from tests.process.conftest import OPTIONS, Instance, submit
from tests.process.test_pages import texts

Start = Callable[..., Instance]


def submit_images(contents: list[bytes], **options: object) -> tuple[Submit, tuple[bytes, ...]]:
    headers = tuple(ImageHeader(ImageKind.FILE, len(content), 280, 280) for content in contents)
    digest = hashlib.sha256(b"".join(contents)).hexdigest()
    return Submit("images", 0, digest, headers, replace(OPTIONS, **options), False), tuple(contents)


def result_of(instance: Instance, job: str) -> PageResult | PageFailed:
    while not isinstance(message := instance.session.next_of(job, 30.0), PageResult | PageFailed):
        assert message is not None, "nothing came"
    return message


def test_several_images_of_one_request_arrive_in_order_and_are_one_answer(start: Start) -> None:
    instance = start("fake:embed_mib=0.5", "fake")
    contents = [b"first", b"second " * 1000, b"third"]
    instance.session.open_job("images")
    instance.session.send(*submit_images(contents, task="ask"))
    answer = result_of(instance, "images")
    assert isinstance(answer, PageResult)
    assert answer.text == fake_text(*contents) != fake_text(*reversed(contents))
    assert len(answer.geometries) == 3


def test_a_blank_page_is_answered_by_the_encoder_alone(start: Start) -> None:
    instance = start("fake:prepare_fault=blank,on=empty", "fake")
    instance.session.open_job("images")
    instance.session.send(*submit_images([b"empty page"], check_blank=True))
    answer = result_of(instance, "images")
    assert isinstance(answer, PageResult)
    assert (answer.text, answer.finish_reason, answer.image_tokens) == ("", FinishReason.BLANK, 0)
    assert texts(instance.read([b"empty page", b"full page"])) == [fake_text(b"empty page"), fake_text(b"full page")]


def test_pages_that_do_not_fit_into_memory_together_are_read_one_by_one(start: Start) -> None:
    instance = start("fake", "fake:batch=4,fault=no-memory,decode_ms=5")
    contents = [b"page %d" % number for number in range(6)]
    assert texts(instance.read(contents)) == [fake_text(content) for content in contents]
    assert instance.status().counters["restarts"] == 0


def test_a_page_that_does_not_fit_into_memory_alone_fails_and_the_others_do_not(start: Start) -> None:
    instance = start("fake:fault=no-memory,on=huge", "fake")
    answers = instance.read([b"small", b"huge", b"smaller"])
    failure = answers.pop(1)
    assert isinstance(failure, PageFailed) and failure.code is ErrorCode.OOM
    assert failure.attempt == 2 and "--max-pixels" in failure.message
    assert texts(answers) == [fake_text(b"small"), fake_text(b"smaller")]


def test_a_client_hears_that_a_page_starts_again_for_lack_of_memory(start: Start) -> None:
    instance = start("fake:fault=no-memory,on=huge", "fake")
    instance.session.open_job("job")
    message, buffers = submit("job", 0, b"huge", stream=True)
    instance.session.send(message, buffers)
    seen = []
    while not isinstance(seen[-1] if seen else None, PageFailed):
        seen.append(instance.session.next_of("job", 30.0))
    assert [type(each) for each in seen if type(each).__name__ != "Accepted"] == [Restarted, PageFailed]
