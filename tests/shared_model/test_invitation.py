"""Codes: read as written, mistakes noticed, the secret never in what the server keeps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.errors import InputError
from shared_model.invitation import Invitation, certificate_print, enrol_message, leave_message

SECRETS, PRINTS = st.binary(min_size=16, max_size=16), st.binary(min_size=20, max_size=20)


@given(SECRETS, PRINTS)
def test_a_code_says_what_was_put_in(secret: bytes, print_: bytes) -> None:
    invitation = Invitation(secret, print_)
    code = invitation.code()
    assert [len(group) for group in code.split("-")] == [8] * 8
    assert Invitation.parse(code) == invitation
    assert Invitation.parse(f"  {code.lower().replace('-', ' ')}\n") == invitation
    assert secret.hex() not in invitation.digest()


@given(SECRETS, st.integers(0, 63), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_mistyped_code_is_refused(secret: bytes, place: int, letter: str) -> None:
    text = Invitation(secret, bytes(20)).code().replace("-", "")
    changed = text[:place] + letter + text[place + 1 :]
    if changed != text:
        with pytest.raises(InputError, match="mistyped"):
            Invitation.parse(changed)


@pytest.mark.parametrize("text", ["", "A", "AAAAAAAA-" * 8, "ä" * 64, "1" * 64, "A" * 63, "A" * 72])
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="incomplete or mistyped"):
        Invitation.parse(text)


def test_sizes_are_fixed() -> None:
    with pytest.raises(InputError):
        Invitation(b"short", bytes(20))


def test_messages_are_apart() -> None:
    assert len(certificate_print(b"der")) == 20
    assert enrol_message(bytes(16), "key") != enrol_message(bytes(15) + b"1", "key")
    assert leave_message("key", "then") != leave_message("key", "now")
    assert bytes(16) not in enrol_message(bytes(16), "key")
