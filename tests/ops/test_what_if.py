"""The past under another policy: the same rules over the same journal, what they hold back, and who is told what."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import orjson
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner, Result

from ops.bench_what_if import Recording
from ops.commands.what_if import what_if
from ops.embedded import EmbeddedKafka
from ops.fleet_file import read_fleet
from ops.simulation.engine import Scenario, Wish
from ops.simulation.mail_world import Outage, Quality
from ops.site import Site
from ops.what_if.findings import Pause, fidelity, pauses, sums, total
from ops.what_if.policy_file import OtherPolicy, PolicyFileWrong, changed, read_policy_file
from ops.what_if.study import Past, Study
from schemas.entry import Entry
from schemas.envelope import to_wire
from schemas.health import HealthChanged, ListChanged, PauseOrdered
from schemas.ids import ClientId
from schemas.policy import Health, Policy, PolicyApplied
from schemas.topics import FLEET_JOURNAL, partition_of
from streams.log.kafka import Reader
from streams.roles import all_topics
from tests.ops.what_if_story import SICK, WELL, bad_week
from tests.scenarios.weather import ONE, OTHER, fleet

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
AS_IT_WAS: dict[str, object] = {
    "version": "test",
    "warm_up": {"enabled": False},
    "rotation": {"enabled": False},
    "lists": {"canary_sends": 0},
    "health": {
        "bounce_rate_watch": 1.0,
        "bounce_rate_mailbox": 1.0,
        "bounce_rate_domain": 1.0,
        "complaints_mailbox": 100,
    },
}
SIMULATED: dict[str, object] = {
    "warm_up": {"target_per_day": 30},
    "rotation": {"rest_share": 0.34, "capacity_floor_share": 0.3},
    "reserve": {"share": 0.2},
}
STRICT = {"bounce_rate_mailbox": 0.05, "sample_at_least": 20, "absolute_at_least": 2, "out_hours": 720}


def studied(
    entries: list[Entry], policy: dict[str, object], begin: datetime = MONDAY, end: datetime | None = None
) -> Study:
    study = Study(begin, end, OtherPolicy(policy, {}))
    past = Past(study)
    for entry in entries:
        if not past.entry(entry):
            break
    past.close()
    return study


def with_health(**changes: object) -> dict[str, object]:
    return {**AS_IT_WAS, "health": {**AS_IT_WAS["health"], **changes}}  # type: ignore[dict-item]  # a table


def of_other(study: Study) -> list[Pause]:
    return pauses(study, study.what_if)


# ── a stricter policy, a laxer one, the same one ─────────────────────────────────────────────────


def test_a_stricter_policy_takes_the_mailbox_out_at_its_second_bounce_and_avoids_the_three_that_followed() -> None:
    study = studied(bad_week().entries, with_health(**STRICT))
    assert [(p.scope, p.name, f"{p.since:%m-%d}", p.until, p.rule) for p in of_other(study)] == [
        ("mailbox", SICK, "03-03", None, "hard bounce rate")
    ]
    assert of_other(study)[0].evidence.startswith("hard bounce rate: 2 of 28 (7.1%; threshold 5.0%)")
    of_box = sums(study, "mailbox")
    assert of_box[SICK].recorded == {"mails": 80, "accepted": 75, "hard_bounces": 5, "complaints": 1}
    assert (of_box[SICK].what_if["hard_bounces"], of_box[SICK].what_if["complaints"]) == (3, 1)
    held = of_box[SICK].what_if["mails"]
    assert held == of_box[SICK].what_if["accepted"] + 3
    assert 80 - held in (28, 29), "one more may have been out already when the second bounce came back"
    assert not of_box[WELL].what_if
    assert study.what_if.limits == {(ClientId("acme"), "mailbox_out"): held}


def test_what_comes_of_a_mail_that_is_held_back_is_no_evidence() -> None:
    study = studied(bad_week().entries, with_health(**{**STRICT, "complaints_mailbox": 1}))
    rules = [f.evidence.rule for _, f in study.what_if.decided if isinstance(f, HealthChanged)]
    assert rules == ["hard bounce rate"], "the complaint was of a mail that is held back"


def test_a_pause_ends_at_its_own_time_though_the_journal_is_silent_then() -> None:
    study = studied(bad_week().entries, with_health(**{**STRICT, "out_hours": 5}))
    first = of_other(study)[0]
    assert first.until is not None
    assert timedelta(0) <= first.until - first.since - timedelta(hours=5) <= timedelta(seconds=2)


def test_a_laxer_policy_pauses_nobody_and_loses_nothing() -> None:
    story = bad_week()
    study = studied(story.entries, with_health(complaints_mailbox=200))
    assert not of_other(study)
    assert not total(study).what_if
    assert study.what_if.decided == study.then.decided


def test_a_warm_up_cap_holds_back_what_is_over_it() -> None:
    tight = {"enabled": True, "start_per_day": 5, "target_per_day": 8, "growth": 1.0, "days_at_least": 1}
    study = studied(bad_week((), ()).entries, {**AS_IT_WAS, "warm_up": tight})
    assert study.what_if.limits[ClientId("acme"), "warm_up"] == sum(
        one.what_if["mails"] for one in sums(study, "day").values()
    )
    kept = {one.recorded["mails"] - one.what_if["mails"] for one in sums(study, "day").values()}
    assert kept == {2 * 5}, "nothing is known to have arrived, so the caps do not grow"


def test_a_list_whose_canary_is_bad_is_held_and_a_paused_mailbox_holds_up_no_canary() -> None:
    canary = {"canary_sends": 30, "wait_hours": 24, "bounces_at_least": 2, "bounce_rate_at_most": 0.05}
    held = studied(bad_week((2, 4)).entries, {**AS_IT_WAS, "lists": canary})
    assert [(p.scope, p.name, p.rule) for p in of_other(held)] == [
        ("list", "campaign/all", "hard bounces of the canary")
    ]
    calm = studied(bad_week((), ()).entries, {**AS_IT_WAS, "lists": canary})
    waited = calm.what_if.limits[ClientId("acme"), "list_canary"]
    assert waited == 10 + 30, "what followed the canary, and the next day's until 24 hours were over"
    strict = {"sample_at_least": 10, "absolute_at_least": 1, "bounce_rate_mailbox": 0.01, "out_hours": 720}
    paused = studied(bad_week((10,)).entries, {**with_health(**strict), "lists": {**canary, "bounces_at_least": 9}})
    assert [p.name for p in of_other(paused)] == [SICK]
    out = [next(at for at, f in s.what_if.decided if isinstance(f, ListChanged)) for s in (calm, paused)]
    assert out[1] - out[0] <= timedelta(seconds=1)


def test_up_to_the_first_day_the_policies_of_then_lead_and_what_was_sent_then_is_not_counted() -> None:
    wednesday = MONDAY + timedelta(days=2)
    study = studied(bad_week().entries, with_health(**STRICT), wednesday)
    assert [f"{p.since:%m-%d}" for p in of_other(study)] == ["03-04"], "its counts of before are evidence"
    assert sums(study, "day").keys() == {"2026-03-04", "2026-03-05"}


def test_what_comes_back_of_a_mail_from_before_is_evidence_and_counted_for_nobody() -> None:
    after_the_mails = MONDAY + timedelta(hours=9, minutes=30)
    study = studied(bad_week((), (5,)).entries, with_health(complaints_mailbox=1), after_the_mails)
    assert [(p.name, f"{p.since:%m-%d %H}") for p in of_other(study)] == [(SICK, "03-02 10")]
    assert total(study).recorded == {"mails": 120, "accepted": 120}


def test_what_lies_after_the_last_day_is_left_unread() -> None:
    study = studied(bad_week().entries, with_health(**STRICT), MONDAY, MONDAY + timedelta(days=1))
    assert sums(study, "day").keys() == {"2026-03-02"}
    assert not of_other(study)


def test_another_policy_stands_above_those_that_were_applied_meanwhile() -> None:
    story = bad_week()
    story.policy("acme", health=Health())
    study = studied(story.entries, with_health(**STRICT))
    assert study.applied == 2, "that of the beginning too"
    assert study.policies[ClientId("acme")].health.bounce_rate_mailbox == 1


# ── fidelity ─────────────────────────────────────────────────────────────────────────────────────


def simulated() -> Recording:
    """A fleet with pauses, rests, a reserve, canaries, an outage: everything that is decided about senders."""
    led = msgspec.convert({**SIMULATED, "version": "now"}, Policy)
    noon = MONDAY + timedelta(days=3, hours=12)
    bad = Quality(dead=0.06, complaints=0.004)
    wishes = {ONE: Wish(per_day=150, quality=bad), OTHER: Wish(per_day=120, special=(("second", bad),))}
    outages = (
        Outage(noon, noon + timedelta(hours=1), "own"),
        Outage(noon - timedelta(days=1), noon - timedelta(hours=22), receiver="gmail", throttles=True),
    )
    run = Recording(Scenario(fleet(24, 4, 2, policy=led, warm=True), MONDAY, 9, wishes=wishes, outages=outages))
    for _ in run.run():
        pass
    return run


def test_the_policy_of_then_decides_everything_as_it_was_decided_and_so_does_the_same_one_as_the_other() -> None:
    run = simulated()
    kinds: set[str] = set()
    for begin in (MONDAY, MONDAY + timedelta(days=4)):
        study = studied(run.entries, SIMULATED, begin)
        found = fidelity(study)
        assert (found.decisions, found.sends, found.differences) == (1.0, 1.0, [])
        kinds |= found.kinds.keys()
        assert not total(study).what_if
        again = [(p.who, p.since, p.until) for p in of_other(study)]
        assert again == [(p.who, p.since, p.until) for p in pauses(study, study.then)] != []
    assert {"health.changed", "list.changed", "rest.began", "reserve.changed", "receiver.throttled"} <= kinds


def test_decisions_that_differ_from_the_recorded_ones_lower_the_fidelity_and_are_named() -> None:
    story = bad_week()
    story.sees(PauseOrdered(ClientId("acme"), "mailbox", SICK, "lena", "a try"))
    story.entries[-1] = msgspec.structs.replace(story.entries[-1], decided=())
    found = fidelity(studied(story.entries, AS_IT_WAS))
    assert found.kinds == {"health.changed": (0, 0, 1)}
    assert (found.decisions, found.sends) == (0.0, 1.0)
    assert "mailbox box0@acme.test" in found.differences[0]
    assert found.differences[0].endswith("paused by an operator: only in the rerun")


# ── the policy file ──────────────────────────────────────────────────────────────────────────────


def written(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text, "utf-8")
    return path


def test_a_fleet_file_is_read_as_apply_reads_it(tmp_path: Path) -> None:
    rules = "[policy.health]\nout_hours = 48\n[clients.acme.policy.lists]\ncanary_sends = 20\n"
    path = written(tmp_path, Path("ops/sample_fleet.toml").read_text("utf-8") + rules)
    (tmp_path / "sample_mailboxes.csv").write_bytes(Path("ops/sample_mailboxes.csv").read_bytes())
    led = {f.client: f.policy for f in read_fleet(path) if isinstance(f, PolicyApplied)}
    assert len(led) > 1
    assert {client: read_policy_file(path).of(client) for client in led} == led


def test_a_client_of_its_own_has_its_own_policy_over_that_for_all(tmp_path: Path) -> None:
    text = "[policy.health]\nout_hours = 48\n[clients.acme.policy.health]\nsample_at_least = 20\n"
    other = read_policy_file(written(tmp_path, text))
    acme, birch = (other.of(ClientId(name)) for name in ("acme", "birch"))
    assert changed(birch, acme) == ["health.sample_at_least 50 → 20"]
    assert changed(Policy(), birch) == ["health.out_hours 24 → 48"]
    assert other.named == {"acme"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[health]\nout_hours = 4\n", r"\[health\] stands outside of the policy: write \[policy.health\]"),
        ("[policy.health]\nout_days = 2\n", r"policy.health.out_days is not a setting"),
        ("[policy.health]\nbounce_rate_mailbox = 3.0\n", r"is a share of 1: 0.03 is 3 %"),
        ("[policy.health]\nout_hours = 'long'\n", r"Expected `int`"),
        ("[policy.version]\nname = 'x'\n", r"Expected `str`"),
        ("[clients.acme.policy.warm_up]\ngrowth = 0.5\n", r"clients.acme.policy.warm_up: growth must be at least"),
        ("[polici]\n", r"\[polici\] is no part of a fleet file"),
        ("[clients.acme]\ncampaigns = ['all']\n", "neither"),
        ("policy = 'strict'\n", "written as tables"),
        ("clients = ['acme']\n", "written as tables"),
        ("[policy\n", "is no TOML"),
    ],
)
def test_a_wrong_policy_file_says_where_and_what_to_do_and_ends_in_2(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(PolicyFileWrong, match=said):
        read_policy_file(path)
    done = CliRunner().invoke(what_if, [str(path), "--from", "2026-03-02"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Invalid value for POLICY" in done.stderr


# ── the command ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def journal(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Iterator[Site]:
    """A fleet's topics; its journal holds the bad week, an entry of an owner that was gone, and no process runs."""
    made = Site(tmp_path / "home", kafka.bootstrap, "", topic_prefix)
    made.prepare()
    asyncio.run(write(made, bad_week().entries))
    yield made
    made.close()


async def write(site: Site, entries: list[Entry]) -> None:
    partition = partition_of(b"acme", FLEET_JOURNAL.partitions)
    producer = AIOKafkaProducer(bootstrap_servers=site.settings.connection.bootstrap, linger_ms=5)
    await producer.start()
    void = msgspec.structs.replace(entries[20], id="late")
    for entry in (*entries[:30], void, *entries[30:]):
        await producer.send(site.settings.topic(FLEET_JOURNAL), to_wire(entry), partition=partition)
    await producer.stop()


def asked(site: Site, policy: Path, *options: str) -> Result:
    return CliRunner().invoke(what_if, [str(policy), *options], env=site.environment)


def test_the_command_tells_from_kafka_what_would_have_been_and_writes_nothing_there(
    journal: Site, tmp_path: Path
) -> None:
    health = "".join(f"{name} = {value}\n" for name, value in STRICT.items())
    rest = "[policy.warm_up]\nenabled = false\n[policy.rotation]\nenabled = false\n[policy.lists]\ncanary_sends = 0\n"
    policy, report = written(tmp_path, f"{rest}[policy.health]\n{health}"), tmp_path / "report.html"
    before = asyncio.run(ends(journal))

    done = asked(journal, policy, "--from", "2026-03-02", "--to", "2026-03-05", "--json", "--report", str(report))
    assert done.exit_code == 0, done.output
    found = orjson.loads(done.stdout)
    assert found["fidelity"]["decisions"] == found["fidelity"]["mails"] == 1.0
    assert found["total"]["held_by_recorded_policy"]["mails"] == 0
    assert found["mailboxes"][SICK]["held_by_other"]["hard_bounces"] == 3
    assert [(p["name"], p["rule"]) for p in found["pauses"]["other"]] == [(SICK, "hard bounce rate")]
    page = report.read_text("utf-8")
    assert SICK in page
    assert "<script src=" not in page

    shown = asked(journal, policy, "--from", "2026-03-02")
    assert shown.exit_code == 0
    assert "hard bounce rate: 2 of 28" in " ".join(shown.stdout.split())
    assert "What it cannot know" not in shown.stdout
    assert "goes to no other mailbox here" in " ".join(shown.stdout.split())

    for days in (("2025-01-01", "2025-01-31"), ("2026-04-01", "2026-04-30")):
        nothing = asked(journal, policy, "--from", days[0], "--to", days[1])
        assert nothing.exit_code == 1
        assert "no mail was assigned from" in nothing.stderr
        assert "The journal begins at 2026-03-02" in " ".join(nothing.stderr.split())
    assert asked(journal, policy, "--from", "2026-03-05", "--to", "2026-03-01").exit_code == 2
    assert asyncio.run(ends(journal)) == before


async def ends(site: Site) -> dict[tuple[str, int], int]:
    reader = Reader(site.settings.connection)
    topics = all_topics(site.settings).items()
    found = await reader.ends((name, n) for name, (count, _) in topics for n in range(count))
    await reader.close()
    return found


def test_ctrl_c_ends_it_with_130_and_leaves_no_report_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        policy, report = written(tmp_path, "[policy.health]\nout_hours = 48\n"), tmp_path / "report.html"
        command = [
            sys.executable,
            "-m",
            "ops.cli",
            "what-if",
            str(policy),
            "--from",
            "2026-03-02",
            "--report",
            str(report),
        ]
        where = {"KAFKA_BROKERS": f"127.0.0.1:{silent.getsockname()[1]}", "DATABASE_URL": "", "MAILFLEET_HOME": "."}
        running = subprocess.Popen(command, env={**os.environ, **where}, stderr=subprocess.PIPE, text=True)
        silent.settimeout(20)
        silent.accept()[0].close()
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=20)[1]
    assert (running.returncode, report.exists()) == (130, False)
    assert "interrupted" in said
