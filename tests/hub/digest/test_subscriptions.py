"""Asking, confirming, changing, ending. Looking changes nothing."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import func, select, text

from paperworks.errors import InputError, NotFound
from paperworks.hub.digest import tickets
from paperworks.hub.digest.addresses import address_hash, network_of, normalise
from paperworks.hub.service import subscriptions as service
from paperworks.hub.store.models import Base, Subscriber, Subscription, Suppression, Ticket

from .town import LINK, TOPIC, Town, part, read, ticket_of


def everything(town: Town) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables."""
    with town.hub.db.read() as session:
        return {
            table.name: sorted(map(tuple, session.execute(select(table))), key=str)
            for table in Base.metadata.sorted_tables
        }


def states(town: Town) -> list[tuple[str, str]]:
    with town.hub.db.read() as session:
        query = select(Subscriber.email, Subscription.state).join(Subscription).order_by(Subscription.id)
        return [(row[0], row[1]) for row in session.execute(query)]


def test_nothing_but_the_confirmation_is_sent_before_the_button(town: Town) -> None:
    town.arrive(3)
    ticket = town.ask()
    town.at("2026-08-22 07:00")
    town.beat()
    assert len(town.mails()) == 1
    view = service.confirm(town.hub, ticket)
    assert view.state == "confirmed"
    assert [item.sentence for item in view.subscriptions] == ["new papers in cs.LG, every day at 7:00"]
    town.at("2026-08-23 07:00")
    town.arrive()
    town.beat()
    assert len(town.mails("digest")) == 1


def test_looking_changes_nothing_and_buttons_act(town: Town) -> None:
    ticket = town.ask()
    before = everything(town)
    view = service.confirm_view(town.hub, ticket)
    assert (view.email, len(view.subscriptions)) == ("ada@example.org", 1)
    assert everything(town) == before
    service.confirm(town.hub, ticket)
    town.arrive()
    town.at("2026-08-22 07:00")
    town.beat()
    leave = ticket_of(town.digests()[0])
    before = everything(town)
    assert service.unsubscribe_view(town.hub, leave).subscriptions
    service.preview(town.hub, *TOPIC)
    service.subscriptions(town.hub)
    assert everything(town) == before
    service.unsubscribe(town.hub, leave)
    assert states(town) == [("ada@example.org", "ended")]


def test_a_scanner_that_opens_every_link_of_every_mail_changes_nothing(town: Town) -> None:
    town.ask()
    town.join("bo@example.org")
    town.arrive()
    town.at("2026-08-22 07:00")
    town.beat()
    links = [
        link for path in town.mails() for kind in ("plain", "html") for link in LINK.finditer(part(read(path), kind))
    ]
    assert {link[0].split("/")[3] for link in links} == {"confirm", "never", "u"}
    before = everything(town)
    for link in links:
        view = {"confirm": service.confirm_view, "u": service.unsubscribe_view}.get(link[0].split("/")[3])
        if view:
            try:
                view(town.hub, link[1])
            except NotFound:
                assert link[0].split("/")[3] == "confirm"
    assert everything(town) == before


def test_one_click_ends_everything_at_once_for_ever_and_twice_is_once(town: Town) -> None:
    town.arrive(2)
    town.join()
    town.join(kind="author", spec={"name": "Ada Writer"})
    town.at("2026-08-22 07:00")
    town.beat()
    leave = ticket_of(town.digests()[0])
    town.later(days=2000)
    assert service.unsubscribe(town.hub, leave).subscriptions == ()
    once = everything(town)
    town.later(days=1)
    service.unsubscribe(town.hub, leave)
    assert everything(town) == once
    town.arrive()
    town.beat()
    assert len(town.mails("digest")) == 1


def test_old_mails_keep_working_after_the_secret_was_changed(town: Town) -> None:
    town.arrive()
    town.join()
    town.at("2026-08-22 07:00")
    town.beat()
    (town.settings.home / tickets.SECRET_FILE).unlink()
    town.at("2026-08-23 07:00")
    town.arrive()
    town.beat()
    old, new = (ticket_of(mail) for mail in town.digests())
    assert old != new
    assert service.unsubscribe_view(town.hub, new).email == "ada@example.org"
    assert service.unsubscribe(town.hub, old).subscriptions == ()


def test_only_hashes_of_tickets_are_kept(town: Town) -> None:
    town.join()
    town.arrive()
    town.at("2026-08-22 07:00")
    town.beat()
    secrets = {link[1] for path in town.mails() for link in LINK.finditer(part(read(path), "plain"))}
    assert len(secrets) == 3
    town.hub.db.close()
    with town.hub.db.write() as session:
        session.execute(text("SELECT 1"))
    stored = b"".join(path.read_bytes() for path in town.settings.home.glob("hub.sqlite*"))
    assert not [secret for secret in secrets if secret.encode() in stored]
    assert (town.settings.home / tickets.SECRET_FILE).stat().st_mode & 0o077 == 0


def test_a_confirmation_is_good_for_seven_days_and_acts_once(town: Town) -> None:
    early, late = town.ask("a@example.org"), town.ask("b@example.org")
    town.later(days=6, hours=23)
    service.confirm(town.hub, early)
    once = everything(town)
    service.confirm(town.hub, early)
    assert everything(town) == once, "a second press is harmless"
    town.later(hours=2)
    with pytest.raises(NotFound, match="subscribe again"):
        service.confirm(town.hub, late)
    with town.hub.db.read() as session:
        subscriber = session.scalar(select(Subscriber.id).where(Subscriber.email == "a@example.org"))
    leave = tickets.derive(tickets.hub_secret(town.settings.home), "never", subscriber or 0)
    service.unsubscribe(town.hub, leave)
    with pytest.raises(NotFound):
        service.confirm(town.hub, early)
    for ticket in ("", "x" * 43, "🂡", "\udc80", leave):
        with pytest.raises(NotFound):
            service.confirm_view(town.hub, ticket)


def test_the_answer_is_the_same_for_known_unknown_and_suppressed_addresses(town: Town) -> None:
    town.join("known@example.org")
    service.never(town.hub, town.ask("never@example.org"))
    n = len(town.mails())
    answers = [
        service.subscribe(town.hub, email, "query", {"query": "pruning"})
        for email in ("known@example.org", "unknown@example.org", "never@example.org")
    ]
    assert answers == [None, None, None]
    mails = [read(path) for path in town.mails()[:]]
    assert len(mails) == n + 2
    texts = {str(mail["To"]): part(mail, "plain") for mail in mails if "pruning" in part(mail, "plain")}
    same = {LINK.sub("LINK", words) for words in texts.values()}
    assert set(texts) == {"known@example.org", "unknown@example.org"}
    assert len(same) == 1, "not even the mail tells"


def test_three_confirmation_mails_a_day_to_an_address_and_ten_an_hour_for_a_network(town: Town) -> None:
    for _ in range(5):
        town.ask("ADA@example.org")
        town.ask("ada@EXAMPLE.org")
    assert len(town.mails()) == 3
    town.later(hours=25)
    assert town.ask()
    n = len(town.mails())
    for i in range(14):
        town.ask(f"reader{i}@example.org", network=f"192.0.2.{i}")
    assert len(town.mails()) == n + 10
    assert town.ask("other@example.org", network="198.51.100.7"), "another network has its own ten"
    town.later(minutes=61)
    assert town.ask("reader13@example.org", network="192.0.2.99")


def test_a_refused_wish_leaves_no_row_behind(town: Town) -> None:
    for _ in range(4):
        town.ask()
    with town.hub.db.read() as session:
        assert session.scalar(select(func.count()).select_from(Subscription)) == 3


def test_never_means_no_mail_of_any_kind_and_keeps_only_a_hash(town: Town) -> None:
    town.join()
    town.arrive()
    never = LINK.findall(part(read(town.mails("confirm")[0]), "plain"))[1]
    service.never(town.hub, never)
    service.never(town.hub, never)
    town.at("2026-08-22 07:00")
    town.beat()
    assert town.ask("Ada@Example.org") == ""
    assert len(town.mails()) == 1
    with town.hub.db.read() as session:
        rows = list(session.execute(select(Suppression.email_hash, Suppression.why)))
    assert [tuple(row) for row in rows] == [(address_hash("ada@example.org"), "own wish")]


def test_an_address_suppressed_after_planning_gets_nothing(town: Town) -> None:
    from paperworks.hub.service import digest

    town.arrive()
    town.join()
    town.at("2026-08-22 07:00")
    assert digest.plan_due(town.hub) == 1
    with town.hub.db.write() as session:
        service.suppress(session, "ada@example.org", "complaint", "2026-08-22T07:00:00Z")
    digest.send_due(town.hub)
    assert (town.states(), town.mails("digest")) == (["empty"], [])


def test_a_stranger_cannot_change_what_a_confirmed_reader_gets(town: Town) -> None:
    town.join(hour=7, time_zone="Europe/Paris")
    before = service.subscriptions(town.hub)
    town.ask(kind="query", spec={"query": "spam"}, time_zone="Asia/Tokyo", hour=3)
    assert service.subscriptions(town.hub) == before


def test_asking_again_for_the_same_with_another_hour_replaces_it(town: Town) -> None:
    town.join(hour=7)
    town.join(hour=9)
    assert [item.hour for item in service.subscriptions(town.hub)[0].subscriptions] == [9]


def test_choices_behind_the_link(town: Town) -> None:
    town.arrive()
    town.join()
    town.join(kind="query", spec={"query": "pruning"})
    town.join("bo@example.org", "query", {"query": "cats"})
    town.at("2026-08-22 07:00")
    town.beat()
    leave = ticket_of(town.digests()[0])
    first, second = service.unsubscribe_view(town.hub, leave).subscriptions
    view = service.change(town.hub, leave, first.id, cadence="weekly")
    assert view.subscriptions[0].sentence == "new papers in cs.LG, every Monday at 7:00"
    view = service.change(town.hub, leave, hour=20, time_zone="Asia/Tokyo", most=5)
    assert {(item.hour, item.most) for item in view.subscriptions} == {(20, 5)}
    for wrong in ({"hour": 24}, {"weekday": 7}, {"cadence": "hourly"}, {"most": 0}, {"time_zone": "Nowhere"}):
        with pytest.raises(InputError):
            service.change(town.hub, leave, first.id, **wrong)  # type: ignore[arg-type]
    somebody_elses = service.subscriptions(town.hub)[1].subscriptions[0].id
    with pytest.raises(NotFound):
        service.unsubscribe(town.hub, leave, somebody_elses)
    assert [item.id for item in service.unsubscribe(town.hub, leave, first.id).subscriptions] == [second.id]
    assert service.unsubscribe(town.hub, leave, second.id).state == "ended"


def test_what_nobody_confirmed_is_deleted_after_thirty_days(town: Town) -> None:
    town.ask("unconfirmed@example.org")
    town.join("ada@example.org")
    town.later(days=29)
    assert service.clean(town.hub) == 0
    town.later(days=2)
    assert service.clean(town.hub) == 1
    assert [view.email for view in service.subscriptions(town.hub)] == ["ada@example.org"]
    with town.hub.db.read() as session:
        assert session.scalars(select(Ticket.purpose)).all() == ["never"]


@pytest.mark.parametrize(
    "wrong",
    [
        "", "ada", "@example.org", "ada@", "a@b@example.org", "ada@example..org", "ada @example.org", "ada@exa mple.org",
        "ada@example.org\nBcc: all@example.org", "ada@example.org\r\n", "Ada <ada@example.org>", "=?utf-8?q?a=0Ab?=@example.org",
        "ada@-example.org", "ada,bo@example.org", '"ada"@example.org', "ada@[127.0.0.1]", "a" * 65 + "@example.org",
        "ada@" + "e" * 250 + ".org", "ада@example.org", "ada@example.org\u2028x", "ada\u0000@example.org",
    ],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused(town: Town, wrong: str) -> None:
    with pytest.raises(InputError, match="mail"):
        service.subscribe(town.hub, wrong, *TOPIC)
    assert town.mails() == []


def test_addresses_are_normalised() -> None:
    assert normalise("  Ada.L+x@BÜCHER.example ") == "Ada.L+x@xn--bcher-kva.example"
    assert network_of("nonsense") == ""


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("weather", {}), ("topic", {}), ("topic", {"categories": ["cs.LG'; DROP TABLE paper; --"]}), ("topic", {"categories": [1]}),
        ("query", {"query": " \n "}), ("query", {"query": "x" * 1001}), ("author", {"name": "  "}), ("trending", {"window": "year"}),
    ],
)  # fmt: skip
def test_what_is_no_wish_is_refused(town: Town, kind: str, spec: dict[str, object]) -> None:
    with pytest.raises(InputError):
        service.subscribe(town.hub, "ada@example.org", kind, spec)
    with pytest.raises(InputError):
        service.preview(town.hub, kind, spec)


def test_addresses_stay_out_of_the_log(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    town.join()
    for _ in range(4):
        town.ask()
    town.arrive()
    town.at("2026-08-22 07:00")
    town.beat()
    assert "no confirmation mail" in caplog.text
    assert "ada@" not in caplog.text


def test_a_preview_needs_no_address_and_says_when_it_shows_older_papers(town: Town) -> None:
    assert service.preview(town.hub, *TOPIC).sections == ()
    town.arrive(2)
    view = service.preview(town.hub, *TOPIC)
    assert (view.count, view.note, view.manage_url) == (2, "", "")
    town.later(days=60)
    view = service.preview(town.hub, *TOPIC)
    assert view.count == 2
    assert "Nothing new" in view.note
