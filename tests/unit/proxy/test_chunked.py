"""The chunked coding: whatever way the bytes are cut, and what is refused."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.proxy.chunked import LAST_CHUNK, BadChunk, ChunkedReader, chunk


def read(data: bytes, cuts: list[int]) -> tuple[bytes, ChunkedReader]:
    """Return the content of `data` fed in pieces, and the reader."""
    reader = ChunkedReader()
    content = b""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in pairwise(edges):
        if reader.done:
            reader.rest += data[begin:end]
        elif begin < end:
            content += reader.feed(data[begin:end])
    return content, reader


@given(pieces=st.lists(st.binary(max_size=300), max_size=8), cuts=st.lists(st.integers(0, 5_000), max_size=12))
def test_what_is_written_is_read_back_however_it_is_cut(pieces: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(map(chunk, pieces)) + LAST_CHUNK + b"NEXT"
    content, reader = read(whole, cuts)
    assert content == b"".join(pieces)
    assert reader.done
    assert reader.rest == b"NEXT"


@given(data=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=6))
def test_any_bytes_are_read_or_refused_the_same_way_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    outcomes = []
    for way in ([], cuts):
        try:
            content, reader = read(data, way)
        except BadChunk:
            outcomes.append(None)
        else:
            outcomes.append((content, reader.done))
    assert outcomes[0] == outcomes[1]


chunky = st.lists(
    st.sampled_from([b"3", b"0", b"\r\n", b"\r", b"\n", b"abc", b";", b"a=b", b'"', b" ", b"X: 1", b"f" * 16]),
    max_size=12,
).map(b"".join)


@given(data=chunky, cuts=st.lists(st.integers(0, 60), max_size=6))
def test_nearly_chunked_bytes_are_read_or_refused_the_same_way_however_they_are_cut(
    data: bytes, cuts: list[int]
) -> None:
    test_any_bytes_are_read_or_refused_the_same_way_however_they_are_cut.hypothesis.inner_test(data, cuts)  # type: ignore[attr-defined]


def test_trailers_are_kept_the_way_they_are_passed_on() -> None:
    content, reader = read(b"3\r\nabc\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n", [])
    assert (content, reader.trailers) == (b"abc", b"\r\nX-A: 1\r\nX-B: 2")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"3;" + b"a" * 300 + b"\r\n", id="an-extension-that-is-too-long"),
        pytest.param(b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\na\r\n" * 1000, id="a-body-of-extensions"),
        pytest.param(b"0\r\n" + b"X: " + b"a" * 5000 + b"\r\n\r\n", id="a-trailer-that-is-too-long"),
        pytest.param(b"0\r\nAuthorization: x\r\n\r\n", id="a-trailer-that-authenticates"),
        pytest.param(b"00000000000000003\r\n", id="seventeen-digits"),
        pytest.param(b"3\rX", id="cr-without-lf"),
    ],
)
def test_refuses(data: bytes) -> None:
    with pytest.raises(BadChunk):
        read(data, [])


def test_an_unfinished_size_line_that_cannot_become_valid_is_refused_at_once() -> None:
    with pytest.raises(BadChunk):
        ChunkedReader().feed(b"zz")
