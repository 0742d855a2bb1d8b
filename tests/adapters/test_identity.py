"""Who a recipient is: one person, one normalised address, one token that nobody else can make."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.ids import ClientId, SendId
from streams.delivery.identity import (
    TOKEN_LENGTH,
    AddressInvalid,
    delivery_key,
    domain_of,
    loose,
    normalise,
    recipient_of,
    token_is_ours,
    token_of,
)

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@pytest.mark.parametrize(
    ("given_address", "normal"),
    [
        ("Anna@Customer.Test", "anna@customer.test"),
        ("  anna@customer.test\t", "anna@customer.test"),
        ("anna@München.example", "anna@xn--mnchen-3ya.example"),
        ("anna@MÜNCHEN.example", "anna@xn--mnchen-3ya.example"),
        ("anna@xn--MNCHEN-3YA.example", "anna@xn--mnchen-3ya.example"),
        ("anna@mu\u0308nchen.example", "anna@xn--mnchen-3ya.example"),
        ("anna@例え。テスト", "anna@xn--r8jz45g.xn--zckzah"),
        ("o'neil+news@a-b.c.test", "o'neil+news@a-b.c.test"),
    ],
)
def test_spellings_of_one_address_become_one(given_address: str, normal: str) -> None:
    assert normalise(given_address) == normal


@pytest.mark.parametrize(
    "address",
    [
        "",
        "anna",
        "@customer.test",
        "anna@",
        "anna@customer",
        "anna@@customer.test",
        "anna@b@customer.test",
        "an na@customer.test",
        ".anna@customer.test",
        "anna.@customer.test",
        "an..na@customer.test",
        '"anna b"@customer.test',
        "änna@customer.test",
        "anna@customer..test",
        "anna@.test",
        "anna@customer.test.",
        "anna@-customer.test",
        "anna@customer-.test",
        "anna@cust_omer.test",
        "anna@[192.0.2.1]",
        "anna@customer.test>",
        "<anna@customer.test>",
        "anna@customer.test\r\nRCPT TO:<x@y.test>",
        "anna\0@customer.test",
        "a" * 65 + "@customer.test",
        "anna@" + "a" * 64 + ".test",
        "anna@" + ".".join(["abcdefgh"] * 40),
    ],
)
def test_what_no_mail_can_be_sent_to_is_refused(address: str) -> None:
    with pytest.raises(AddressInvalid):
        normalise(address)


@pytest.mark.parametrize("domain", ["straße.test", "STRAẞE.test", "φίλος.test", "a\u200db.test"])
def test_a_domain_that_idna_2003_takes_for_another_is_refused(domain: str) -> None:
    with pytest.raises(AddressInvalid, match="xn--"):
        normalise(f"anna@{domain}")


def test_the_longest_local_part_is_admitted() -> None:
    assert normalise("a" * 64 + "@customer.test")


@given(
    address=st.text(max_size=40) | st.builds(lambda a, b: f"{a}@{b}.test", st.text(max_size=20), st.text(max_size=20))
)
@example("a@ß.test")
@example("a@\u212a.test")
def test_normalising_again_changes_nothing_and_gives_ascii_lower_case(address: str) -> None:
    try:
        normal = normalise(address)
    except AddressInvalid:
        return
    assert normalise(normal) == normal
    assert normal.isascii()
    assert normal == normal.lower()
    assert normal.count("@") == 1
    assert domain_of(normal) == normal.partition("@")[2]


@pytest.mark.parametrize(
    ("normal", "one_person"),
    [
        ("anna+news@customer.test", "anna@customer.test"),
        ("anna+a+b@customer.test", "anna@customer.test"),
        ("an.na@customer.test", "an.na@customer.test"),
        ("an.n.a+x@gmail.com", "anna@gmail.com"),
        ("an.na@googlemail.com", "anna@gmail.com"),
        ("+tag@customer.test", "+tag@customer.test"),
        ("an.na@mail.gmail.com", "an.na@mail.gmail.com"),
    ],
)
def test_the_loose_form_drops_tags_and_at_gmail_dots(normal: str, one_person: str) -> None:
    assert loose(normal) == one_person
    assert loose(loose(normal)) == loose(normal)


def test_a_recipient_is_a_keyed_hash_of_the_address() -> None:
    one = recipient_of("anna@customer.test", KEY)
    assert one == recipient_of(normalise("Anna@Customer.test"), KEY)
    assert one != recipient_of("anna@customer.test", OTHER_KEY)
    assert one != recipient_of("otto@customer.test", KEY)
    assert len(one) == 64
    assert delivery_key(one) == one[:16].encode()


def token(client: str = "acme", send_id: str = "s-1", key: bytes = KEY) -> str:
    """Return Anna's token."""
    return token_of(recipient_of("anna@customer.test", KEY), ClientId(client), SendId(send_id), key)


@given(client=st.from_regex(r"[A-Za-z0-9_.:-]{1,30}", fullmatch=True), send_id=st.from_regex(r"[\w.:-]{1,128}"))
def test_a_token_fits_everywhere_and_is_known_again(client: str, send_id: str) -> None:
    made = token(client, send_id)
    assert len(made) == TOKEN_LENGTH
    assert set(made) <= set(ALPHABET)
    assert token_is_ours(made, KEY)
    assert token_is_ours(made.upper(), KEY)


def test_every_send_has_its_own_token_and_every_attempt_the_same() -> None:
    assert token() == token()
    assert len({token(), token(send_id="s-2"), token(client="other"), token("acme", "s-1", OTHER_KEY)}) == 4
    assert token("a", "b:c") != token("a:b", "c")


def test_a_token_of_another_key_is_forged() -> None:
    assert not token_is_ours(token(key=OTHER_KEY), KEY)


@given(place=st.integers(0, TOKEN_LENGTH - 2), letter=st.sampled_from(ALPHABET))
def test_a_token_with_one_letter_changed_is_forged(place: int, letter: str) -> None:
    made = token()
    changed = made[:place] + letter + made[place + 1 :]
    assert token_is_ours(changed, KEY) is (changed == made)


@given(text=st.text(max_size=60))
@example("")
@example("=" * 39)
@example("a" * 39)
@example("a" * 38)
@example(token() + "a")
@example("ä" * 39)
def test_what_is_no_token_is_not_ours(text: str) -> None:
    assert not token_is_ours(text, KEY)
