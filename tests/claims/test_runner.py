"""One claim from its function to its record."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from paperworks.claims.data import Data
from paperworks.claims.runner import forget, run_claim
from paperworks.errors import Cancelled, ClaimError, InputError, NotFound
from tests.conftest import MakePaper

HEAD = "from paperworks.claims import Measurement, Series, claim\nfrom paperworks.errors import *\n\n@claim('halves')\ndef halves(run):\n"


def body(text: str) -> str:
    return HEAD + "".join(f"    {line}\n" for line in text.splitlines())


def test_numbers_enter_the_rule_by_their_mean(make_paper: MakePaper) -> None:
    # alone, seed 1 is far off; the mean over 0.5, 0.9, 0.1 is exactly one half
    paper = make_paper(body("return Measurement({'ratio': [0.5, 0.9, 0.1][run.seed]})"))
    record = run_claim(paper, "halves", "cpu")
    assert (record.state, record.verdict) == ("done", "reproduced")
    assert record.seed_verdicts == ("reproduced", "refuted", "refuted")
    summary = record.values["ratio"]
    assert (summary.mean, summary.min, summary.max) == (pytest.approx(0.5), 0.1, 0.9)
    assert summary.spread == pytest.approx(0.4)  # sample deviation of (-0.4, 0, 0.4): sqrt(0.32 / 2)
    assert summary.per_seed == (0.5, 0.9, 0.1)


@pytest.mark.parametrize(("ratio", "verdict"), [(0.5, "reproduced"), (0.7, "partly"), (0.9, "refuted")])
def test_the_three_verdicts(make_paper: MakePaper, ratio: float, verdict: str) -> None:
    paper = make_paper(body(f"return Measurement({{'ratio': {ratio}}})"))
    record = run_claim(paper, "halves", "cpu", seeds=(7,))
    assert record.verdict == verdict
    assert record.values["ratio"].spread is None


@pytest.mark.parametrize(
    ("per_seed", "verdict"),
    [("[True, True]", "reproduced"), ("[True, False]", "partly"), ("[False, False]", "refuted")],
)
def test_truth_values_must_agree_over_all_seeds(make_paper: MakePaper, per_seed: str, verdict: str) -> None:
    paper = make_paper(
        body(f"return Measurement({{'ok': {per_seed}[run.seed]}})"),
        {"halves": {"reproduced": "ok", "refuted": "not ok"}},
    )
    assert run_claim(paper, "halves", "cpu", seeds=(0, 1)).verdict == verdict


def test_smoke_never_yields_a_verdict(make_paper: MakePaper) -> None:
    record = run_claim(make_paper(), "halves", "smoke")
    assert (record.state, record.verdict, record.seed_verdicts) == ("done", "not-measured", ())
    assert record.reason == "smoke runs check the code, not the claim"
    assert record.values["ratio"].mean == pytest.approx(0.51)


def test_rules_that_both_hold_are_told_and_give_no_verdict(make_paper: MakePaper) -> None:
    paper = make_paper(claims={"halves": {"reproduced": "ratio > 0", "refuted": "ratio < 1"}})
    record = run_claim(paper, "halves", "cpu")
    assert (record.state, record.verdict) == ("failed", "not-measured")
    assert "contradict each other" in record.reason


def test_a_rule_about_what_was_not_measured_is_found_at_smoke(make_paper: MakePaper) -> None:
    paper = make_paper(claims={"halves": {"reproduced": "ratoi > 0", "refuted": "ratio < 0"}})
    record = run_claim(paper, "halves", "smoke")
    assert record.state == "failed"
    assert "ratoi, which was not measured; measured: ratio" in record.reason


def test_missing_data_is_a_reason_not_a_crash(make_paper: MakePaper) -> None:
    paper = make_paper(body("return Measurement({'ratio': len(run.data.path('none/such.csv').read_text())})"))
    record = run_claim(paper, "halves", "cpu", data=Data(beside=False))
    assert (record.state, record.verdict) == ("skipped", "not-measured")
    assert "none/such.csv" in record.reason
    assert "PAPERWORKS_DATA" in record.reason


def test_a_missing_extra_is_a_reason_not_a_crash(make_paper: MakePaper) -> None:
    paper = make_paper(body("raise MissingExtra('made_up', 'nn')"))
    record = run_claim(paper, "halves", "cpu")
    assert (record.state, record.verdict) == ("skipped", "not-measured")
    assert "pip install 'paperworks[nn]'" in record.reason


def test_an_extra_missing_at_import_is_a_reason_too(make_paper: MakePaper) -> None:
    paper = make_paper("import a_library_that_nobody_has\n", more='extra = "nn"')
    assert "paperworks[nn]" in run_claim(paper, "halves", "cpu").reason


def test_a_scale_that_the_claim_lacks_is_a_reason(make_paper: MakePaper) -> None:
    paper = make_paper()
    text = (paper.folder / "paper.toml").read_text(
        encoding="utf-8"
    ) + 'scales = ["smoke", "gpu"]\nneeds = "one GPU of 24 GB"\n'
    (paper.folder / "paper.toml").write_text(text, encoding="utf-8")
    from paperworks.catalogue import RunnablePaper, read_spec

    paper = RunnablePaper(read_spec(paper.folder / "paper.toml"), paper.folder, paper.package, builtin=False)
    record = run_claim(paper, "halves", "cpu")
    assert record.state == "skipped"
    assert "this claim has smoke, gpu; it needs: one GPU of 24 GB" in record.reason


def test_an_error_in_the_function_is_recorded_with_its_traceback(make_paper: MakePaper) -> None:
    paper = make_paper(body("return Measurement({'ratio': 1 / 0})"))
    record = run_claim(paper, "halves", "cpu")
    assert (record.state, record.verdict) == ("failed", "not-measured")
    assert record.reason == "ZeroDivisionError: division by zero (seed 0)"
    assert "in halves" in record.error


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("return {'ratio': 0.5}", "returned a dict"),
        ("return Measurement({'ratio': float('nan')})", "not a number"),
        (
            "return Measurement({'ratio' if run.seed else 'other': 0.5})",
            "speaks of ratio|other values with another seed",
        ),
        ("return Measurement({'ratio': 0.5 if run.seed else 'half'})", "one kind over all seeds"),
    ],
)
def test_a_broken_contract_is_recorded(make_paper: MakePaper, text: str, says: str) -> None:
    import re

    record = run_claim(make_paper(body(text)), "halves", "cpu")
    assert record.state == "failed"
    assert re.search(says, record.reason)


def test_infinity_is_a_value_that_a_record_can_hold(make_paper: MakePaper, tmp_path: Path) -> None:
    from paperworks.claims.record import Record

    paper = make_paper(body("return Measurement({'ratio': float('inf')}, {'curve': [1.0, float('inf')]})"))
    record = run_claim(paper, "halves", "cpu")
    assert record.verdict == "refuted"
    again = Record.read(record.save(tmp_path))
    assert again == record
    assert again.values["ratio"].mean == float("inf")


@pytest.mark.parametrize(
    ("reproduce", "says"),
    [
        (None, "no made_up/reproduce.py"),
        ("x = 1\n", r'no function for .halves.; write one marked @claim\("halves"\)'),
        (body("pass") + HEAD.partition("\n\n")[2].replace("def halves", "def again") + "    pass\n", "twice, in halves and again"),
        (body("pass").replace("'halves'", "'doubles'"), "measures 'doubles', which paper.toml does not claim; its claims are: halves"),
        ("def broken(:\n", "cannot be imported: SyntaxError"),
        ("import a_library_that_nobody_has\n", "cannot be imported"),
    ],
)  # fmt: skip
def test_a_folder_that_disagrees_with_its_toml_is_named(
    make_paper: MakePaper, reproduce: str | None, says: str
) -> None:
    paper = make_paper(files={"reproduce.py": reproduce})
    with pytest.raises(ClaimError, match=says):
        run_claim(paper, "halves", "smoke")


def test_an_unknown_claim_is_told_with_the_known_ones(make_paper: MakePaper) -> None:
    with pytest.raises(NotFound, match="its claims are: halves"):
        run_claim(make_paper(), "other", "smoke")


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_seeds_must_differ(make_paper: MakePaper, seeds: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="seeds"):
        run_claim(make_paper(), "halves", "smoke", seeds=seeds)


COUNTED = body(
    """from pathlib import Path
log = Path(__file__).with_name('calls.txt')
with log.open('a') as file: file.write(f'{run.seed}\\n')
if run.checkpoint.get('half') is None:
    run.checkpoint.put('half', {'done': 1})
    if run.seed == 2 and not Path(__file__).with_name('go').exists(): raise Cancelled('stopped by the test')
return Measurement({'ratio': 0.5 + run.seed / 100}, notes=str(run.checkpoint.get('half')))"""
)


def test_finished_seeds_are_taken_over_and_an_unfinished_one_goes_on(make_paper: MakePaper, tmp_path: Path) -> None:
    paper = make_paper(COUNTED)
    with pytest.raises(Cancelled):
        run_claim(paper, "halves", "cpu", checkpoint_root=tmp_path / "kept")
    (paper.folder / "go").touch()
    record = run_claim(paper, "halves", "cpu", checkpoint_root=tmp_path / "kept")
    assert (paper.folder / "calls.txt").read_text().split() == ["0", "1", "2", "2"]
    assert record.resumed_seeds == (0, 1)
    assert record.values["ratio"].per_seed == (0.5, 0.51, 0.52)
    assert record.notes == ("{'done': 1}",)


def test_fresh_and_changed_code_take_nothing_over(make_paper: MakePaper, tmp_path: Path) -> None:
    paper = make_paper()
    kept = tmp_path / "kept"
    assert run_claim(paper, "halves", "cpu", checkpoint_root=kept).resumed_seeds == ()
    assert run_claim(paper, "halves", "cpu", checkpoint_root=kept).resumed_seeds == (0, 1, 2)
    assert run_claim(paper, "halves", "cpu", checkpoint_root=kept, fresh=True).resumed_seeds == ()
    (paper.folder / "toy.py").write_text('"""Other numbers."""\n', encoding="utf-8")
    assert run_claim(paper, "halves", "cpu", checkpoint_root=kept).resumed_seeds == ()
    forget(paper, "halves", "cpu", kept)
    assert run_claim(paper, "halves", "cpu", checkpoint_root=kept).resumed_seeds == ()


def test_a_damaged_result_is_measured_again(make_paper: MakePaper, tmp_path: Path) -> None:
    paper = make_paper()
    run_claim(paper, "halves", "cpu", checkpoint_root=tmp_path)
    damaged = next(tmp_path.rglob("seed-1.json"))
    damaged.write_text(damaged.read_text()[:20])
    assert run_claim(paper, "halves", "cpu", checkpoint_root=tmp_path).resumed_seeds == (0, 2)


def test_two_runs_cannot_share_a_checkpoint(make_paper: MakePaper, tmp_path: Path) -> None:
    from filelock import FileLock

    paper = make_paper()
    run_claim(paper, "halves", "cpu", checkpoint_root=tmp_path)
    with FileLock(next(tmp_path.rglob(".lock"))), pytest.raises(ClaimError, match="another run"):
        run_claim(paper, "halves", "cpu", checkpoint_root=tmp_path)


def test_a_cancelled_run_stops_at_its_next_progress(make_paper: MakePaper) -> None:
    cancel = threading.Event()
    events: list[dict[str, Any]] = []

    def listen(event: dict[str, Any]) -> None:
        events.append(event)
        if event["kind"] == "progress" and event["seed"] == 1:
            cancel.set()

    with pytest.raises(Cancelled):
        run_claim(make_paper(), "halves", "cpu", on_event=listen, cancel=cancel)
    assert [event["seed"] for event in events if event["kind"] == "measurement"] == [0]


def test_events_and_progress_tell_the_same_story(make_paper: MakePaper) -> None:
    events: list[dict[str, Any]] = []
    shares: list[float] = []
    run_claim(
        make_paper(), "halves", "cpu", seeds=(0, 1), on_event=events.append,
        progress=lambda done, total=None, note="": shares.append(done / (total or 1)),
    )  # fmt: skip
    kinds = [event["kind"] for event in events]
    assert kinds == ["progress", "progress", "measurement"] * 2 + ["verdict"]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_record_names_the_data_with_a_hash(make_paper: MakePaper, tmp_path: Path) -> None:
    (tmp_path / "numbers.csv").write_bytes(b"1,2\n")
    paper = make_paper(
        body("run.data.path('numbers.csv')\nrun.data.path('numbers.csv')\nreturn Measurement({'ratio': 0.5})")
    )
    record = run_claim(paper, "halves", "cpu", data=Data(tmp_path))
    # the hash is that of `printf '1,2\n' | sha256sum`
    assert record.data == ("numbers.csv (4 B, sha256 52186c933993da40)",)


def test_long_curves_are_thinned_with_both_ends_kept(make_paper: MakePaper) -> None:
    paper = make_paper(body("return Measurement({'ratio': 0.5}, {'curve': [float(i) for i in range(5000)]})"))
    curve = run_claim(paper, "halves", "cpu", seeds=(0,)).series["curve"]
    assert len(curve.y[0]) == 1000
    assert (curve.y[0][0], curve.y[0][-1]) == (0.0, 4999.0)
    assert curve.x[0] == curve.y[0]
