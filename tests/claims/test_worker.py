"""The worker process: events that nothing can corrupt, limits, cancelling, killing, going on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from paperworks.claims.process import Job, WorkerProcess, spawn, surroundings
from paperworks.claims.record import Record
from tests.claims.test_runner import body
from tests.conftest import MakePaper

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX systems"),
    pytest.mark.timeout(120),
]


def job(tmp_path: Path, **changes: Any) -> Job:
    fields: dict[str, Any] = {
        "slug": "made_up",
        "claim": "halves",
        "records": tmp_path / "records",
        "checkpoints": tmp_path / "kept",
    }
    return Job(**(fields | changes))


def play(wanted: Job) -> list[dict[str, Any]]:
    with spawn(wanted) as worker:
        return list(worker.events())


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["kind"] for event in events if event["kind"] not in ("heartbeat", "progress", "log")]


def test_a_run_from_start_to_record(make_paper: MakePaper, tmp_path: Path) -> None:
    make_paper(install=True)
    events = play(job(tmp_path))
    assert kinds(events) == ["started", "measurement", "measurement", "measurement", "verdict", "record"]
    record = Record.read(events[-1]["path"])
    assert (record.verdict, events[-1]["verdict"]) == ("reproduced", "reproduced")
    assert not list((tmp_path / "kept").rglob("seed-*"))  # nothing left to resume


def test_what_libraries_print_does_not_corrupt_the_events(make_paper: MakePaper, tmp_path: Path) -> None:
    text = """import os, subprocess, sys
print('{"kind": "record", "path": "/forged"}')
os.write(1, b'{"kind": "record", "path": "/forged"}\\n')
subprocess.run([sys.executable, '-c', 'print(\\'{"kind": "error", "message": "forged by a child"}\\')'])
import logging; logging.getLogger('lib').warning('beware %s', 'of this')
return Measurement({'ratio': 0.5})"""
    make_paper(body(text), install=True)
    with spawn(job(tmp_path, seeds=(0,))) as worker:
        events = list(worker.events())
    assert kinds(events) == ["started", "measurement", "verdict", "record"]
    assert "/forged" not in events[-1]["path"]
    assert [event["message"] for event in events if event["kind"] == "log"] == ["beware of this"]


def test_an_error_is_a_failed_record(make_paper: MakePaper, tmp_path: Path) -> None:
    make_paper(body("return Measurement({'ratio': 1 / 0})"), install=True)
    events = play(job(tmp_path))
    assert (events[-1]["kind"], events[-1]["state"]) == ("record", "failed")
    assert "ZeroDivisionError" in Record.read(events[-1]["path"]).error


def test_an_unknown_paper_is_an_error_event(make_paper: MakePaper, tmp_path: Path) -> None:
    make_paper(install=True)
    events = play(job(tmp_path, slug="other"))
    assert events[-1]["kind"] == "error"
    assert "no paper 'other'" in events[-1]["message"]


SLOW_SEED_1 = body(
    """import time
from pathlib import Path
with Path(__file__).with_name('calls.txt').open('a') as file: file.write(f'{run.seed}\\n')
if run.seed == 1 and not Path(__file__).with_name('go').exists():
    for i in range(6000):
        run.progress(i, 6000, 'slow'); time.sleep(0.01)
return Measurement({'ratio': 0.5 + run.seed / 100})"""
)


def until_seed_1(worker: WorkerProcess) -> None:
    for event in worker.events():
        if event["kind"] == "progress" and event["seed"] == 1:
            return
    pytest.fail("seed 1 was never reached")


def test_a_cancelled_run_says_so_and_keeps_finished_seeds(make_paper: MakePaper, tmp_path: Path) -> None:
    make_paper(SLOW_SEED_1, install=True)
    with spawn(job(tmp_path)) as worker:
        events = []
        for event in worker.events():
            events.append(event)
            if event["kind"] == "progress" and event["seed"] == 1:
                worker.cancel()
    assert events[-1]["kind"] == "cancelled"
    assert worker.wait() == 3
    assert len(list((tmp_path / "kept").rglob("seed-0.json"))) == 1
    assert not (tmp_path / "records").exists()


def test_after_kill_9_there_is_no_half_record_and_the_run_goes_on(make_paper: MakePaper, tmp_path: Path) -> None:
    paper = make_paper(SLOW_SEED_1, install=True)
    with spawn(job(tmp_path)) as worker:
        events = []
        for event in worker.events():
            events.append(event)
            if event["kind"] == "progress" and event["seed"] == 1:
                os.kill(worker.pid, signal.SIGKILL)
    assert events[-1]["kind"] == "error"
    assert "SIGKILL" in events[-1]["message"]
    assert not list(tmp_path.glob("records/**/*.json"))
    (paper.folder / "go").touch()
    events = play(job(tmp_path))
    assert [event["resumed"] for event in events if event["kind"] == "measurement"] == [True, False, False]
    assert (paper.folder / "calls.txt").read_text().split() == ["0", "1", "1", "2"]
    assert Record.read(events[-1]["path"]).resumed_seeds == (0,)


def test_a_worker_that_ignores_the_request_is_killed_with_its_children(make_paper: MakePaper, tmp_path: Path) -> None:
    text = """import signal, subprocess, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
Path(__file__).with_name('child').write_text(str(child.pid))
run.progress(1, 2)
time.sleep(600)"""
    paper = make_paper(body(text), install=True)
    with spawn(job(tmp_path)) as worker:
        events = []
        for event in worker.events():
            events.append(event)
            if event["kind"] == "progress":
                worker.cancel(kill_after_s=0.5)
    assert events[-1]["kind"] == "cancelled"
    child = int((paper.folder / "child").read_text())
    deadline = time.monotonic() + 10
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(child)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # a zombie is dead, only not yet collected by its new parent


def test_the_deadline_stops_a_run(make_paper: MakePaper, tmp_path: Path) -> None:
    make_paper(body("import time\ntime.sleep(60)"), install=True)
    events = play(job(tmp_path, seconds=1.5))
    assert events[-1]["kind"] == "cancelled"
    assert "longer than its 1.5 s" in events[-1]["message"]


def test_memory_is_limited(make_paper: MakePaper, tmp_path: Path) -> None:
    make_paper(body("return Measurement({'ratio': len(bytearray(3 * 1024**3))})"), install=True)
    events = play(job(tmp_path, memory_gib=2))
    assert (events[-1]["kind"], events[-1]["state"]) == ("record", "failed")
    assert "MemoryError" in events[-1]["reason"]


def test_the_network_is_off_and_the_temporary_folder_is_its_own(make_paper: MakePaper, tmp_path: Path) -> None:
    text = """import os, socket, tempfile
here = socket.create_server(('127.0.0.1', 0))
socket.create_connection(here.getsockname()).close()  # this machine itself may be spoken to
try: socket.create_connection(('192.0.2.1', 80), timeout=1)
except PermissionError as error: refused = str(error)
try: socket.getaddrinfo('example.org', 80)
except PermissionError: looked_up = 'refused'
return Measurement({'ratio': 0.5, 'refused': refused, 'looked_up': looked_up, 'offline': os.environ['HF_HUB_OFFLINE'],
  'proxies': str([n for n in os.environ if n.lower().endswith('_proxy') and n.lower() != 'no_proxy']),
  'nice': os.nice(0), 'tmp': tempfile.gettempdir()})"""
    make_paper(body(text), install=True)
    os.environ["https_proxy"] = "http://127.0.0.1:9"
    try:
        events = play(job(tmp_path, seeds=(0,)))
    finally:
        del os.environ["https_proxy"]
    assert events[-1].get("state") == "done", events[-1]
    values = Record.read(events[-1]["path"]).values
    assert "may not use the network, and asked for 192.0.2.1" in values["refused"].text
    assert values["looked_up"].text == "refused"
    assert (values["offline"].text, values["proxies"].text) == ("1", "[]")
    assert values["nice"].mean is not None
    assert values["nice"].mean >= 10
    assert "paperworks-worker-" in values["tmp"].text
    assert not Path(values["tmp"].text).exists()


def test_a_run_that_may_use_the_network_keeps_its_surroundings(tmp_path: Path) -> None:
    variables = {"HTTPS_PROXY": "http://proxy", "PATH": "/bin"}
    assert surroundings(job(tmp_path, network=True), variables) == variables
    assert "HTTPS_PROXY" not in surroundings(job(tmp_path), variables)
    assert surroundings(job(tmp_path), variables)["PATH"] == "/bin"
