"""Whether Amazon signed a notice of SNS: over real TLS, by certificates of an authority that the test trusts."""

import base64
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec

from adapters.reports.provider_event import NotAnEvent
from adapters.reports.sns import Amazon, AmazonSilent, NotSigned, host_of, read
from tests.adapters.sns_server import HOST, ISSUER, PEM, SnsServer, issue
from tests.adapters.webhook_samples import TOPIC

PATH = PEM.removeprefix(f"https://{HOST}")


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[SnsServer]:
    """SNS on a socket of loopback."""
    made = SnsServer(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture
async def amazon(server: SnsServer) -> AsyncIterator[Amazon]:
    """The checker, which trusts the server's authority."""
    made = Amazon(server.trust, server.client())
    yield made
    await made.close()


async def check(amazon: Amazon, notice: dict[str, Any], now: datetime | None = None) -> None:
    """Check a notice as it comes over the wire."""
    await amazon.check(read(orjson.dumps(notice)), now)


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("type_", ["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"])
async def test_what_amazon_signed_is_believed(server: SnsServer, amazon: Amazon, type_: str, version: str) -> None:
    await check(amazon, server.notice('Grüße\n"quoted" \\ \U0001f4a1', TOPIC, type_, version=version))


async def test_a_subject_is_signed_where_there_is_one(server: SnsServer, amazon: Amazon) -> None:
    notice = server.notice("{}", TOPIC, Subject="Amazon SES Email Event Notification")
    await check(amazon, notice)
    with pytest.raises(NotSigned):
        await check(amazon, notice | {"Subject": "another"})
    with pytest.raises(NotSigned):
        await check(amazon, {name: value for name, value in notice.items() if name != "Subject"})


@pytest.mark.parametrize("field", ["Message", "MessageId", "Timestamp", "TopicArn", "Signature"])
async def test_a_notice_that_was_changed_is_not_believed(server: SnsServer, amazon: Amazon, field: str) -> None:
    notice = server.notice("{}", TOPIC)
    changed = base64.b64encode(b"\1" * 256).decode() if field == "Signature" else notice[field] + "x"
    with pytest.raises(NotSigned, match="not of this message"):
        await check(amazon, notice | {field: changed})


@pytest.mark.parametrize("signature", ["", "not base64!", "AAAA", "é"])
async def test_a_signature_that_is_none_is_not_believed(server: SnsServer, amazon: Amazon, signature: str) -> None:
    with pytest.raises(NotSigned):
        await check(amazon, server.notice("{}", TOPIC) | {"Signature": signature})


@pytest.mark.parametrize("version", ["", "0", "3"])
async def test_another_signature_version_is_not_believed(server: SnsServer, amazon: Amazon, version: str) -> None:
    with pytest.raises(NotSigned, match="version"):
        await check(amazon, server.notice("{}", TOPIC) | {"SignatureVersion": version})


async def test_a_sha256_signature_is_none_of_sha1(server: SnsServer, amazon: Amazon) -> None:
    with pytest.raises(NotSigned):
        await check(amazon, server.notice("{}", TOPIC, version="2") | {"SignatureVersion": "1"})


BAD_URLS = [
    f"http://{HOST}{PATH}",
    f"https://{HOST}:8443{PATH}",
    f"https://user@{HOST}{PATH}",
    f"https://evil.test/{HOST}{PATH}",
    f"https://{HOST}.evil.test{PATH}",
    f"https://evil.test#{HOST}/x.pem",
    f"https://evil.test\\@{HOST}/x.pem",
    "https://sns.eu-west-1.amazonaws.com.evil.test/x.pem",
    "https://bucket.s3.eu-west-1.amazonaws.com/x.pem",
    "https://snsxeu-west-1.amazonaws.com/x.pem",
    "https://sns.a.b.amazonaws.com/x.pem",
    "https://[::1]/x.pem",
    "https://sns.eu-west-1.amazonaws.com",
    "",
    f"https://{HOST}/x.pem.txt",
    f"https://{HOST}/x?y=.pem",
]


@pytest.mark.parametrize("url", BAD_URLS)
async def test_a_certificate_is_taken_from_sns_alone(server: SnsServer, amazon: Amazon, url: str) -> None:
    with pytest.raises(NotSigned, match="no address of SNS"):
        await check(amazon, server.notice("{}", TOPIC, SigningCertURL=url))
    assert server.asked == [], "nobody was asked"


def test_chinas_host_is_amazons_too() -> None:
    assert host_of("https://sns.cn-north-1.amazonaws.com.cn/x.pem") == "sns.cn-north-1.amazonaws.com.cn"


async def test_a_certificate_is_asked_for_once(server: SnsServer, amazon: Amazon) -> None:
    for _ in range(3):
        await check(amazon, server.notice("{}", TOPIC))
    assert server.asked == [PATH]


async def test_a_lone_certificate_is_completed_by_its_issuers(server: SnsServer, amazon: Amazon) -> None:
    server.answers[PATH] = server.signing_certificate(above=ISSUER).pem
    await check(amazon, server.notice("{}", TOPIC))
    assert server.asked == [PATH, "/r2m01.cer"]


async def test_an_issuer_elsewhere_is_not_asked(server: SnsServer, amazon: Amazon) -> None:
    server.answers[PATH] = server.signing_certificate(above="https://evil.test/r2m01.cer").pem
    with pytest.raises(NotSigned, match="of no authority that is trusted"):
        await check(amazon, server.notice("{}", TOPIC))
    assert server.asked == [PATH]


def chains(server: SnsServer) -> dict[str, bytes]:
    """Return what may stand at SigningCertURL in vain."""
    stranger = issue("Amazon Test Root CA", None)
    return {
        "another authority": server.signing_certificate(issuer=stranger).pem + stranger.pem,
        "signed by itself": server.signing_certificate(issuer=None).pem,
        "of another host": server.signing_certificate("evil.test").pem + server.middle.pem,
        "ended": server.signing_certificate(age=2).pem + server.middle.pem,
        "another key": issue("sns", server.middle, "sns.amazonaws.com").pem + server.middle.pem,
        "not RSA": issue(
            "sns", server.middle, "sns.amazonaws.com", key=ec.generate_private_key(ec.SECP256R1())
        ).pem + server.middle.pem,
        "an authority itself": server.middle.pem + server.root.pem,
        "no certificate": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "nothing": b"",
    }  # fmt: skip


@pytest.mark.parametrize(
    "how",
    ["another authority", "signed by itself", "of another host", "ended", "another key", "not RSA",
     "an authority itself", "no certificate", "nothing"],
)  # fmt: skip
async def test_a_certificate_that_does_not_prove_sns_is_not_believed(
    server: SnsServer, amazon: Amazon, how: str
) -> None:
    server.answers[PATH] = chains(server)[how]
    with pytest.raises(NotSigned):
        await check(amazon, server.notice("{}", TOPIC))


async def test_a_certificate_that_ended_since_is_asked_for_anew(server: SnsServer, amazon: Amazon) -> None:
    await check(amazon, server.notice("{}", TOPIC))
    with pytest.raises(NotSigned):
        await check(amazon, server.notice("{}", TOPIC), datetime.now(UTC) + timedelta(hours=13))


@pytest.mark.parametrize("answer", [302, 404, 500, b"x" * 100_000])
async def test_an_answer_that_is_no_certificate_may_be_one_later(
    server: SnsServer, amazon: Amazon, answer: int | bytes
) -> None:
    server.answers[PATH], good = answer, server.answers[PATH]
    with pytest.raises(AmazonSilent):
        await check(amazon, server.notice("{}", TOPIC))
    assert "/elsewhere.pem" not in server.asked, "a redirect is not followed"
    server.answers[PATH] = good
    await check(amazon, server.notice("{}", TOPIC))


async def test_a_server_whose_tls_is_not_trusted_is_not_listened_to(server: SnsServer) -> None:
    another = ssl.create_default_context(cadata=issue("Another", None).pem.decode())
    amazon = Amazon(another, server.client(another))
    with pytest.raises(AmazonSilent):
        await check(amazon, server.notice("{}", TOPIC))
    assert server.asked == []
    await amazon.close()


async def test_a_subscription_is_confirmed_at_sns_alone(server: SnsServer, amazon: Amazon) -> None:
    notice = server.notice("You have chosen to subscribe ...", TOPIC, "SubscriptionConfirmation")
    await amazon.confirm(read(orjson.dumps(notice)))
    assert server.asked == [notice["SubscribeURL"].removeprefix(f"https://{HOST}")]
    with pytest.raises(NotSigned):
        await amazon.confirm(read(orjson.dumps(notice | {"SubscribeURL": "https://evil.test/"})))


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[]", b'{"Type": "Notification"}', b'{"Type": "Hello"}', b"\xff\xfe",
     b'{"Type":"Notification","Message":{},"MessageId":"1","Timestamp":"","TopicArn":""}'],
)  # fmt: skip
def test_what_is_no_notice_is_said_to_be_none(raw: bytes) -> None:
    with pytest.raises(NotAnEvent):
        read(raw)


async def test_the_systems_own_authorities_can_be_trusted() -> None:
    await Amazon().close()
