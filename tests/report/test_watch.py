import http.client
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tser_lightning.report.watch import Watched, server
from tser_lightning.report.write import write_report

Build = Callable[..., Path]


@pytest.fixture
def served_of() -> Iterator[Callable[[Watched], ThreadingHTTPServer]]:
    begun = []

    def serve(watched: Watched) -> ThreadingHTTPServer:
        begun.append(server(watched))
        threading.Thread(target=begun[-1].serve_forever, daemon=True).start()
        return begun[-1]

    yield serve
    for found in begun:
        found.shutdown()
        found.server_close()


@pytest.fixture
def served(runs: Path, served_of: Callable[[Watched], ThreadingHTTPServer]) -> ThreadingHTTPServer:
    return served_of(Watched(str(runs / "*")))


def asked(served: ThreadingHTTPServer, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", served.server_port, timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def state_of(served: ThreadingHTTPServer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asked(served, "/state")[1])
    return found


def test_the_state_has_every_run_and_a_curve_with_a_band_per_method(served: ThreadingHTTPServer) -> None:
    state = state_of(served)
    assert state["counted"] == "15 runs: 1 failed, 13 finished, 1 killed"
    killed = next(run for run in state["runs"] if run["status"] == "killed")
    assert (killed["what"], killed["reason"], killed["epoch"], killed["epochs"]) == (
        "ts_kl seed=2",
        "killed at epoch 4 of 30",
        3,
        30,
    )
    assert set(state["curves"]) == {"vanilla_kd", "ts_ce", "ts_kl", "ts", "tser"}
    assert len(state["curves"]["tser"]["mean"]) == 10
    assert all(std > 0 for std in state["curves"]["tser"]["std"])
    assert {method: sorted(each["seeds"]) for method, each in state["results"].items()} == {
        **{method: ["1", "2", "3"] for method in ("vanilla_kd", "ts", "tser")},
        "ts_ce": ["1", "2"],
        "ts_kl": ["1", "3"],
    }


def test_two_runs_are_told_apart_by_what_differs_alone(served: ThreadingHTTPServer) -> None:
    names = {run["what"]: run["name"] for run in state_of(served)["runs"]}
    status, text = asked(served, f"/differences?one={names['tser seed=1']}&other={names['vanilla_kd seed=1']}")
    found = {name: (one, other) for name, one, other in json.loads(text)}
    assert status == 200
    assert found["loss.lam"] == (0.01, None)
    assert "test/acc" in found
    assert "trainer.epochs" not in found


def test_the_page_needs_nothing_from_elsewhere(served: ThreadingHTTPServer) -> None:
    status, page = asked(served, "/")
    assert status == 200
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_events_come_as_a_stream(served: ThreadingHTTPServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.server_port, timeout=60)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream"
    line = answer.fp.readline().decode()
    assert line.startswith("data: ")
    assert len(json.loads(line.removeprefix("data: "))["runs"]) == 15
    connection.close()


def test_only_files_of_the_runs_are_given_and_only_to_this_machine(served: ThreadingHTTPServer) -> None:
    name = next(run["name"] for run in state_of(served)["runs"] if run["status"] == "finished")
    assert json.loads(asked(served, f"/file?run={name}&name=result.json")[1])["data"] == "digits"
    for path in (f"/file?run={name}&name=../x", "/file?run=..%2F..&name=run.json", "/file", "/etc/passwd"):
        assert asked(served, path)[0] == 404
    assert asked(served, "/state", Host="elsewhere.example:80")[0] == 404  # a page of the web that names us


def test_figures_of_a_run_and_a_report_of_shown_runs_are_linked_and_sent(
    build: Build, tmp_path: Path, served_of: Callable[[Watched], ThreadingHTTPServer]
) -> None:
    home, report = build("tser", 1), tmp_path / "report"
    (home / "figures").mkdir()
    (home / "figures" / "steps.png").write_bytes(b"a picture")
    (home / "figures" / "notes.txt").write_text("no picture")
    (tmp_path / "secret.csv").write_text("not of the report")
    write_report(str(home), report)
    here = served_of(Watched(str(tmp_path / "runs" / "*"), report))
    state = state_of(here)
    assert state["runs"][0]["figures"] == ["steps.png"]
    assert asked(here, f"/figure?run={home.name}&name=steps.png") == (200, "a picture")
    assert asked(here, state["report"]) == (200, (report / "report.html").read_text())
    assert asked(here, "/report/results.csv")[1].splitlines() == (report / "results.csv").read_text().splitlines()
    for path in (
        f"/figure?run={home.name}&name=notes.txt",
        f"/figure?run={home.name}&name=..%2Frun.json",
        "/report/../secret.csv",
        "/report/..%2Fsecret.csv",
        "/report/%2Fetc%2Fpasswd",
    ):
        assert asked(here, path)[0] == 404, path


def test_a_report_of_other_runs_is_not_linked(
    build: Build, tmp_path: Path, served_of: Callable[[Watched], ThreadingHTTPServer]
) -> None:
    one, other = build("tser", 1), build("ts", 1)
    write_report(str(one), tmp_path / "report")
    here = served_of(Watched(str(other), tmp_path / "report"))
    assert state_of(here)["report"] is None
    assert asked(here, "/report/report.html")[0] == 404


def test_runs_on_other_data_are_not_held_against_each_other(build: Build, tmp_path: Path) -> None:
    build("ts", 1)
    build("tser", 1)
    build("tser", 1, data="cifar10")
    build("tser", 1, selection="last")
    found = Watched(str(tmp_path / "runs" / "*")).state()["results"].values()
    among = [each["among"] for each in found]
    assert sorted(map(among.count, among)) == [1, 1, 2, 2]


def test_accuracies_are_those_of_the_test_split(served: ThreadingHTTPServer, runs: Path) -> None:
    (path,) = runs.glob("*-loss_tser-seed_2-*")
    accuracy = json.loads((path / "result.json").read_text())["test/acc"]
    assert state_of(served)["results"]["tser"]["seeds"]["2"] == pytest.approx(accuracy, abs=1e-3)


def test_a_hundred_runs_are_all_read(build: Build, tmp_path: Path) -> None:
    first = build("tser", 1)
    for number in range(99):
        shutil.copytree(first, first.with_name(f"digits-{number:08x}"))
    state = Watched(str(tmp_path / "runs" / "*")).state()
    assert len(state["runs"]) == 100
