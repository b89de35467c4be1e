import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.corpus import Document, read
from isoflop.corpus.pii import Pii, scrubbed
from isoflop.corpus.stage import Dropped

SHARED = Path(__file__).resolve().parents[2] / "shared" / "corpus"
KEY = "9f8Q2kLmZx7RtYv0WbN4cD1e"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to jane.doe+x@mail.uni-bonn.de.", "Write to <EMAIL>."),
        ("(a@b.com,c@d.co.uk)", "(<EMAIL>,<EMAIL>)"),
        ("host 93.184.216.34:80", "host <IP>:80"),
        ("http://8.8.8.8/x", "http://<IP>/x"),
        ("at 203.206.129.7.", "at <IP>."),
        ("dns 2606:4700:4700::1111 ok", "dns <IP> ok"),
        ("call +44 20 7946 0958 now", "call <PHONE> now"),
        ("(+1 (555) 234-5678)", "(<PHONE>)"),
        ("+1 202-555-0143", "<PHONE>"),
        ("+4915123456789", "<PHONE>"),
        ("tel. (202) 785-1156", "tel. <PHONE>"),
        ("202.785.1156", "<PHONE>"),
        ("card 4111 1111 1111 1111", "card <CARD>"),
        ("4242424242424242", "<CARD>"),
        ("3782-822463-10005", "<CARD>"),
        ("IBAN DE89 3704 0044 0532 0130 00.", "IBAN <IBAN>."),
        ("GB82WEST12345698765432", "<IBAN>"),
        ("IBAN GB82 WEST 1234 5698 7654 32 GBP", "IBAN <IBAN> GBP"),
        ("my ssn is 123-23-3456", "my ssn is <SSN>"),
        ("id=AKIAIOSFODNN7EXAMPLE", "id=<SECRET>"),
        (f'api_key = "{KEY}"', 'api_key = "<SECRET>"'),
        (f"'password': '{KEY}'", "'password': '<SECRET>'"),
        ("t ghp_" + "a1B2" * 9 + " x", "t <SECRET> x"),
        ("x\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\ny", "x\n<SECRET>\ny"),
    ],
)
def test_what_is_personal_or_secret_becomes_a_placeholder_of_its_kind(text, expected):
    assert scrubbed(text)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4 and 10.15.7.2, section 3.14.15.9",
        "192.168.100.200 and 127.0.0.1, mask 255.255.255.0, 10.200.100.255",
        "999.888.777.666 is no address, 203.206.129.7.12 an OID",
        "ISBN 978-0-19-853453-2, ISBN 0-19-853453-1, ISSN 0028-0836",
        "π = 3.14159265358979323846264338327950288419716939937510",
        "3.1415 9265 3589 7932 3846 2643",
        "2 + 123-45-6789+1, 2-123-45-6789, 000-12-3456, 666-12-3456, 912-12-3456",
        "x = 5 +1234567890 and $a+12345678$ and y+44 20 7946 0958",
        "4111111111111112 is no card, nor 1234567812345678, nor 0.4242424242424242",
        "W@x.mean, @decorator, a @ b.T, user@localhost, me@example.com, git@github.com",
        "at 12:30:45, std::vector, 2009:: 5, 2001:db8::1, fe80::1, a::b",
        "DE89 3704 0044 0532 0130 01, ZZ82WEST12345698765432",
        'password = "correcthorsebatterystaple", api_key = "YOUR_API_KEY_GOES_HERE", key = "aaaaaaaaaaaaaaaaaaaaaa1"',
        "the task-force of the desk-bound, sk-learn, risk-averse",
        "2024-05-01 12:00, 1914-1918, 20240501120000, 555-1234",
        "RFC 2822, 6.02214076e23, 1,234,567,890, 100 200 300 400",
    ],
)
def test_what_only_looks_like_it_survives(text):
    assert scrubbed(text) == (text, {})


def test_the_stage_counts_by_kind_and_leaves_clean_documents_as_they_are():
    clean = Document("nothing here", "p")
    assert Pii().judge_one(clean) is clean
    found = Pii().judge_one(Document("a@b.com c@d.org +44 20 7946 0958", "p", extra={"n": 1}))
    assert found.text == "<EMAIL> <EMAIL> <PHONE>"
    assert found.extra == {"n": 1, "pii": {"email": 2, "phone": 1}}


def test_kinds_placeholder_and_the_most_can_be_chosen():
    document = Document("a@b.com 93.184.216.34", "p")
    assert Pii(kinds=("ip",)).judge_one(document).text == "a@b.com <IP>"
    assert Pii(placeholder="[{kind} removed]").judge_one(document).text == "[EMAIL removed] [IP removed]"
    dropped = Pii(most=1).judge_one(document)
    assert isinstance(dropped, Dropped)
    assert dropped.detail == "1 email, 1 ip"
    with pytest.raises(ValueError, match="no kind 'mail'; choose among secret, email"):
        Pii(kinds=("mail",))


@given(
    st.lists(st.sampled_from(["a@b.com", "93.184.216.34", "+44 20 7946 0958", KEY, "api_key='", "'", " ", "\n", "x."]))
)
def test_scrubbing_twice_is_scrubbing_once(parts):
    once = scrubbed(" or ".join(parts))[0]
    assert scrubbed(once) == (once, {})


@given(st.text(alphabet="0123456789+-. ()aA@:\"'=_", max_size=200))
def test_any_text_is_scrubbed_and_what_is_outside_stays(text):
    found, counts = scrubbed(text, placeholder="\0")
    position = 0
    for piece in found.split("\0"):
        position = text.index(piece, position) + len(piece)
    assert found.count("\0") == sum(counts.values())


@pytest.mark.parametrize(
    "unit",
    [
        "1",
        "+1",
        "a.",
        "a@",
        "@a.",
        "1.",
        "1-",
        "4 ",
        "2001:",
        "sk-a",
        '"a',
        "A1B2 ",
        "(2",
        "-----BEGIN PRIVATE KEY-----",
    ],
)
def test_time_is_linear_whatever_the_text(unit):
    start = time.process_time()
    scrubbed(unit * (200_000 // len(unit)))
    assert time.process_time() - start < 3


@pytest.mark.skipif(not SHARED.exists(), reason="no shared corpus")
def test_mathematics_loses_next_to_nothing():
    documents = [d for d in read(SHARED / "heldout") if "-math" in d.place]
    assert sum(len(document.text) for document in documents) > 500_000
    assert sum(sum(scrubbed(document.text)[1].values()) for document in documents) == 0
