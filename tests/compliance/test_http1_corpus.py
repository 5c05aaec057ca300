"""HTTP/1.1 strictness and request smuggling: the corpus, row by row (RFC 9110, RFC 9112)."""

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from compliance.http1_corpus import Case
from compliance.http1_corpus_run import CASES, SETTINGS, SPLITS, Recorder, complaints
from support.carrier import HTTP1_CLEAR
from support.serving import Serve


class Target(NamedTuple):
    """The server under test and its application."""

    url: str
    recorder: Recorder


@pytest.fixture
async def server(serve: Serve) -> AsyncIterator[Target]:
    recorder = Recorder()
    yield Target(await serve(recorder, **SETTINGS), recorder)
    assert not recorder.seen, "requests of nobody"


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
async def test_a_request_is_answered_as_the_rfc_says_however_it_is_cut(server: Target, case: Case) -> None:
    wrong = {split.__name__: await complaints(case, *server, split) for split in SPLITS}
    assert not any(wrong.values()), f"{wrong} ({case.section}: {case.why})"


def test_the_corpus_is_large_and_every_row_has_a_name_a_section_and_a_reason() -> None:
    assert len(CASES) >= 200
    assert len({case.id for case in CASES}) == len(CASES)
    assert all(case.section.startswith("RFC ") and case.why for case in CASES)
