"""Frames: whatever happens to the bytes of a segment, no record is read that was not written."""

from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.serving.inference_log.frames import (
    HEADER_BYTES,
    Damaged,
    Intact,
    Torn,
    framed,
    frames,
)

payloads = st.lists(st.binary(max_size=40), max_size=8)


def bounds_of(written: list[bytes]) -> list[int]:
    ends = [0]
    for payload in written:
        ends.append(ends[-1] + HEADER_BYTES + len(payload))
    return ends


@given(payloads)
def test_what_is_written_is_read(written: list[bytes]) -> None:
    found = list(frames(b"".join(map(framed, written))))
    assert [bytes(frame.payload) for frame in found if isinstance(frame, Intact)] == written
    assert len(found) == len(written)


@given(payloads.filter(bool), st.data())
def test_a_cut_anywhere_costs_only_the_frame_it_is_in(
    written: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(map(framed, written))
    size = data.draw(st.integers(0, len(whole)))
    found = list(frames(whole[:size]))
    ends = bounds_of(written)
    complete = sum(end <= size for end in ends[1:])
    read = [bytes(frame.payload) for frame in found if isinstance(frame, Intact)]
    assert read == written[:complete]
    torn = [frame for frame in found if isinstance(frame, Torn)]
    assert [frame.size for frame in torn] == ([] if size in ends else [size - ends[complete]])
    assert not any(isinstance(frame, Damaged) for frame in found)


@given(payloads.filter(bool), st.data())
def test_a_changed_byte_is_found_and_never_read(written: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(b"".join(map(framed, written)))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    found = list(frames(bytes(whole)))
    ends = bounds_of(written)
    hit = next(i for i, end in enumerate(ends[1:]) if position < end)
    in_header = position - ends[hit] < HEADER_BYTES
    survivors = written[:hit] if in_header else written[:hit] + written[hit + 1 :]
    assert [bytes(frame.payload) for frame in found if isinstance(frame, Intact)] == survivors
    [damaged] = [frame for frame in found if not isinstance(frame, Intact)]
    assert isinstance(damaged, Damaged)
    assert damaged.offset == ends[hit]
    assert damaged.size == (len(whole) if in_header else ends[hit + 1]) - ends[hit]


@given(payloads, st.integers(1, 100))
def test_zeros_at_the_end_are_what_the_loss_of_power_leaves(
    written: list[bytes], zeros: int
) -> None:
    found = list(frames(b"".join(map(framed, written)) + bytes(zeros)))
    assert [bytes(frame.payload) for frame in found[:-1] if isinstance(frame, Intact)] == written
    assert found[-1] == Torn(bounds_of(written)[-1], zeros)
