"""What the server answers, to whom, and what it tells a browser not to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import PLAIN, SURE, write_battles, write_predictions

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("nh3")

from fastapi.testclient import TestClient

from judge.battles import iter_battles
from judge.view.app import LOOPBACK, TOKEN_HEADER, create_app
from judge.view.browsing import TURNS, Browser
from judge.view.index import Index, lay_beside, read_texts, repeated
from judge.view.label_file import LabelFile

TOKEN = "the-token"


def client(
    folder: Path, *predictions: str, hosts: frozenset[str] | None = LOOPBACK, token: str = TOKEN
) -> TestClient:
    ids, labels, texts = read_texts(iter_battles(folder / "battles.csv"))
    laid = tuple(lay_beside(ids, name, folder / f"{name}.csv") for name in predictions)
    index = Index("battles.csv", ids, repeated(ids), labels, laid, texts)
    browser = Browser(index, LabelFile(folder / "mine.csv"))
    headers = {TOKEN_HEADER: token} if token else {}
    app = create_app(browser, TOKEN, hosts)
    return TestClient(app, base_url="http://127.0.0.1:8000", headers=headers)


@pytest.fixture
def page(plain: Path) -> Iterator[TestClient]:
    with client(plain, "sure", "other") as opened:
        yield opened


def get(page: TestClient, path: str, **parameters: Any) -> Any:
    answer = page.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def listed(page: TestClient, **query: Any) -> list[int]:
    return [line["row"] for line in get(page, "/api/list", **query)["rows"]]


# --- who is let in --------------------------------------------------------------------------------

PATHS = ("/api/about", "/api/list", "/api/battles/0", "/api/battles/0/text?side=a&turn=0&start=0")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", ["", "another", "thé", TOKEN + "x"])
def test_without_the_token_there_are_no_battles(plain: Path, path: str, token: str) -> None:
    page = client(plain, "sure", token="")
    answer = page.get(path, headers={TOKEN_HEADER: token.encode()} if token else {})
    assert answer.status_code == 403
    assert "colour" not in answer.text


def test_without_the_token_no_label_is_taken(plain: Path) -> None:
    page = client(plain, "sure", token="")
    body = {"label": "a"}
    assert page.post("/api/battles/0/label", json=body).status_code == 403
    assert page.post(f"/api/battles/0/label?token={TOKEN}", json=body).status_code == 403
    assert not (plain / "mine.csv").exists()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""]
)
@pytest.mark.parametrize("path", ["/", "/view.js", "/api/about"])
def test_another_name_that_leads_here_is_not_answered(
    page: TestClient, host: str, path: str
) -> None:
    answer = page.get(path, headers={"host": host})
    assert answer.status_code == 421
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:9999", "LOCALHOST", "[::1]:8000"])
def test_this_machine_has_several_names(page: TestClient, host: str) -> None:
    assert page.get("/api/about", headers={"host": host}).status_code == 200


def test_another_sites_page_may_not_ask_even_with_the_token(page: TestClient) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        answer = page.post("/api/battles/0/label", json={"label": "a"}, headers={"origin": origin})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    preflight = page.options("/api/battles/0/label", headers={"origin": "http://evil.example"})
    assert preflight.status_code >= 400
    own = {"origin": "http://127.0.0.1:8000"}
    assert page.post("/api/battles/0/label", json={"label": "a"}, headers=own).status_code == 200


@pytest.mark.parametrize("path", ["/", "/view.css", "/battle.js", "/api/about", "/none", "/docs"])
def test_every_answer_forbids_what_the_page_does_not_need(page: TestClient, path: str) -> None:
    answer = page.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/../setup.cfg", "/page/view.js"])
def test_there_is_nothing_else(page: TestClient, path: str) -> None:
    assert page.get(path).status_code == 404


def test_the_page_is_there_without_the_token_and_has_no_battle_in_it(plain: Path) -> None:
    answer = client(plain, "sure", token="").get("/")
    assert answer.status_code == 200
    assert "colour" not in answer.text
    assert "battles.csv" not in answer.text


def test_a_long_request_is_refused(page: TestClient) -> None:
    answer = page.post("/api/battles/0/label", content=b"x" * 100_000)
    assert answer.status_code == 413
    answer = page.post("/api/battles/0/label", content=iter([b"{}"]))
    assert answer.status_code == 411


def test_on_any_address_the_token_still_decides(plain: Path) -> None:
    page = client(plain, "sure", hosts=None)
    assert page.get("/api/about", headers={"host": "box.example"}).status_code == 200
    wrong = {"host": "box.example", TOKEN_HEADER: "x"}
    assert page.get("/api/about", headers=wrong).status_code == 403


# --- what is answered -----------------------------------------------------------------------------


def test_about_says_what_there_is(page: TestClient) -> None:
    about = get(page, "/api/about")
    assert about["battles"] == len(PLAIN)
    assert (about["labelled"], about["unjudged"], about["contested"]) == (4, 1, 1)
    assert about["judges"] == ["sure", "other"]
    assert about["ballots"] is False


def test_the_list_is_filtered_sorted_and_searched(page: TestClient) -> None:
    assert listed(page) == [0, 1, 2, 3, 4]
    assert listed(page, show="surprising") == [1, 3, 2, 0]
    assert listed(page, show="disagree") == [0]
    assert listed(page, show="unjudged") == [4]
    assert listed(page, label="tie") == [2]
    assert listed(page, predicted="a", judge=1) == [1, 3]
    assert listed(page, search="STRASSE") == [1]
    assert listed(page, search="uno second") == [3]
    assert listed(page, search="nowhere") == []


def test_a_window_of_the_list(page: TestClient) -> None:
    answer = get(page, "/api/list", start=1, count=2)
    assert (answer["total"], answer["start"]) == (5, 1)
    assert [line["id"] for line in answer["rows"]] == ["b1", "b2"]
    assert listed(page, start=99) == []
    assert len(get(page, "/api/list", count=10**9)["rows"]) == 5


def test_a_battle_has_its_text_its_label_and_what_each_judge_says(page: TestClient) -> None:
    battle = get(page, "/api/battles/0")
    assert battle["id"] == "b0"
    assert battle["models"] == ["one", "two"]
    assert battle["chosen"] == "a"
    assert [judge["choice"] for judge in battle["judges"]] == ["a", "b"]
    assert battle["judges"][0]["proba"] == pytest.approx(SURE["b0"])
    assert battle["judges"][0]["surprise"] == pytest.approx(0.10536, abs=1e-5)
    (turn,) = battle["conversation"]["turns"]
    assert "<strong>four</strong>" in turn["a"]["html"]
    plain = get(page, "/api/battles/0", plain=True)["conversation"]["turns"][0]
    assert "**four**" in plain["a"]["html"]


def test_an_unjudged_battle_has_no_probabilities_and_its_reason(plain: Path) -> None:
    (plain / "sure.csv.unjudged.csv").write_text("id,battle,reason\nb4,5,no <b>reply</b>\n")
    battle = get(client(plain, "sure"), "/api/battles/4")
    (judge,) = battle["judges"]
    assert (judge["proba"], judge["choice"], judge["surprise"]) == (None, None, None)
    assert judge["reason"] == "no <b>reply</b>"
    assert battle["label"] is None


def test_a_battle_that_a_file_does_not_name_says_so(plain: Path) -> None:
    rows = {name: row for name, row in SURE.items() if name != "b1"}
    write_predictions(plain / "sure.csv", rows, set=["{A}", "{tie}", "{A, B}", ""])
    page = client(plain, "sure")
    assert "no prediction" in get(page, "/api/battles/1")["judges"][0]["reason"]
    assert get(page, "/api/battles/2")["judges"][0]["also"] == {"set": "{tie}"}
    assert get(page, "/api/battles/4")["judges"][0]["also"] == {}


def test_a_long_text_comes_in_pieces_that_join_to_the_whole(tmp_path: Path) -> None:
    text = "word " * 60_000
    write_battles(tmp_path / "battles.csv", [{"prompt": text, "a": text[:25_000], "b": "short"}])
    write_predictions(tmp_path / "sure.csv", {"b0": (0.2, 0.3, 0.5)})
    page = client(tmp_path, "sure")
    cut = get(page, "/api/battles/0", plain=True)["conversation"]["turns"][0]["prompt"]
    assert cut["length"] == len(text)
    html, shown = cut["html"], cut["shown"]
    while shown < len(text):
        piece = get(page, "/api/battles/0/text", side="prompt", turn=0, start=shown)
        assert piece["shown"] > shown
        html, shown = html + piece["html"], piece["shown"]
    assert html.replace('<div class="plain">', "").replace("</div>", "") == text


def test_a_long_conversation_comes_some_turns_at_a_time(tmp_path: Path) -> None:
    turns = [f"turn {number} " + "x" * 20_000 for number in range(45)]
    write_battles(tmp_path / "battles.csv", [{"prompt": turns, "a": turns, "b": turns}])
    write_predictions(tmp_path / "sure.csv", {"b0": (0.2, 0.3, 0.5)})
    page = client(tmp_path, "sure")
    first = page.get("/api/battles/0")
    assert len(first.content) < 1_000_000
    assert len(first.json()["conversation"]["turns"]) == TURNS
    last = get(page, "/api/battles/0", turn=40)["conversation"]
    assert (last["first"], last["total"], len(last["turns"])) == (40, 45, 5)


def test_an_ordinary_conversation_is_not_cut_and_the_three_texts_are_cut_alike(
    tmp_path: Path,
) -> None:
    ordinary, long = ["x" * 3500] * TURNS, ["y " * 9000] * TURNS
    rows = [dict.fromkeys(("prompt", "a", "b"), turns) for turns in (ordinary, long)]
    write_battles(tmp_path / "battles.csv", rows)
    write_predictions(tmp_path / "sure.csv", dict.fromkeys(("b0", "b1"), (0.2, 0.3, 0.5)))
    page = client(tmp_path, "sure")
    for turn in get(page, "/api/battles/0")["conversation"]["turns"]:
        assert {turn[side]["shown"] for side in ("prompt", "a", "b")} == {3500}
    shown = [
        [turn[side]["shown"] for side in ("prompt", "a", "b")]
        for turn in get(page, "/api/battles/1")["conversation"]["turns"]
    ]
    assert all(len(set(turn)) == 1 for turn in shown)
    assert (shown[0][0], shown[-1][0]) == (18_000, 500)


@pytest.mark.parametrize(
    "path",
    [
        *("/api/battles/99", "/api/battles/-1", "/api/battles/0?turn=7", "/api/list?judge=9"),
        "/api/battles/0/text?side=a&turn=5&start=0",
        "/api/battles/0/text?side=a&turn=0&start=-1",
    ],
)
def test_what_is_not_there_is_not_found(page: TestClient, path: str) -> None:
    assert page.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/api/battles/x", "/api/list?show=<b>", "/api/battles/0/text"])
def test_a_senseless_request_is_an_error_that_repeats_nothing(page: TestClient, path: str) -> None:
    answer = page.get(path)
    assert answer.status_code == 422
    assert answer.json() == {"error": "the request makes no sense"}


# --- labels ---------------------------------------------------------------------------------------


def test_a_label_is_saved_shown_and_listed(page: TestClient, plain: Path) -> None:
    body = {"label": "tie", "note": "same"}
    answer = page.post("/api/battles/4/label", json=body)
    assert answer.json() == {"mine": "tie", "note": "same", "count": 1}
    assert (plain / "mine.csv").read_text().splitlines()[1].startswith("b4,0,0,1,same,")
    battle = get(page, "/api/battles/4")
    assert (battle["mine"], battle["note"]) == ("tie", "same")
    assert listed(page, show="mine") == [4]
    assert 4 not in listed(page, show="unlabelled")


def test_ones_own_label_counts_where_there_is_no_other(page: TestClient) -> None:
    page.post("/api/battles/4/label", json={"label": "a"})
    page.post("/api/battles/1/label", json={"label": "a"})
    assert listed(page, label="a", stamp="2") == [0, 3, 4]
    assert listed(page, show="surprising", judge=1, stamp="2")[:3] == [0, 1, 4]


def test_a_list_stays_as_it_is_while_one_labels(page: TestClient) -> None:
    before = listed(page, show="unlabelled", stamp="1")
    page.post("/api/battles/0/label", json={"label": "a"})
    assert listed(page, show="unlabelled", stamp="1") == before
    assert listed(page, show="unlabelled", stamp="2") == before[1:]


@pytest.mark.parametrize("body", [{"label": "A"}, {}, {"label": "a", "note": "x" * 5000}, [], "a"])
def test_what_is_no_label_is_refused(page: TestClient, plain: Path, body: object) -> None:
    assert page.post("/api/battles/0/label", json=body).status_code == 422
    assert not (plain / "mine.csv").exists()


def test_a_label_that_cannot_be_kept_is_an_error_and_nothing_is_lost(
    page: TestClient, plain: Path
) -> None:
    page.post("/api/battles/0/label", json={"label": "a"})
    (plain / "mine.csv").write_text("id,prompt\nsomething,else\n")
    answer = page.post("/api/battles/1/label", json={"label": "b"})
    assert answer.status_code == 409
    assert "winner_model_a" in answer.json()["error"]
    assert (plain / "mine.csv").read_text() == "id,prompt\nsomething,else\n"


def test_battles_of_one_id_cannot_be_told_apart_by_a_label(tmp_path: Path) -> None:
    rows = [{"id": name, "prompt": "p", "a": "x", "b": "y"} for name in ("s", "s", "t")]
    write_battles(tmp_path / "battles.csv", rows)
    with (tmp_path / "sure.csv").open("w") as file:
        file.write("id,winner_model_a,winner_model_b,winner_tie\n" + "s,1,0,0\n" * 2 + "t,1,0,0\n")
    page = client(tmp_path, "sure")
    assert get(page, "/api/battles/0")["alone"] is False
    answer = page.post("/api/battles/0/label", json={"label": "a"})
    assert answer.status_code == 409
    assert "same id" in answer.json()["error"]
    assert page.post("/api/battles/2/label", json={"label": "a"}).status_code == 200


def test_half_a_character_in_a_note_or_a_search_breaks_nothing(page: TestClient) -> None:
    half = b'{"label": "a", "note": "x\\ud800y"}'
    kind = {"content-type": "application/json"}
    assert page.post("/api/battles/0/label", content=half, headers=kind).status_code in (200, 422)
    assert page.get("/api/list?search=%ED%A0%80").status_code == 200
    assert get(page, "/api/battles/0")["id"] == "b0"
