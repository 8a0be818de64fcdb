"""The page in a real browser: keys, labels, filters, and battles that would do harm."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import write_battles, write_predictions

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("nh3")
sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
PHONE = {"width": 390, "height": 844}
BEACON = "http://beacon.example/p.png"
RUNS = "window.harmed = true"


@pytest.fixture
def opened(
    plain: Path, served: Callable[..., Any], visit: Callable[..., Any]
) -> Callable[..., Any]:
    """Opens the page for the plain battles, at a fragment."""

    def open_page(fragment: str = "", **options: object) -> Any:
        here = served(plain, "sure.csv", "other.csv", "battles.csv")
        seen = visit(here.url + fragment, **options)
        seen.served = here
        expect(seen.page.locator("main h2")).to_be_visible()
        return seen

    return open_page


def labels(folder: Path) -> dict[str, tuple[str, ...]]:
    with (folder / "my-labels.csv").open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        names = ("winner_model_a", "winner_model_b", "winner_tie")
        return {row["id"]: tuple(row[name] for name in names) for row in rows}


def at(page: Any, battle: str) -> None:
    expect(page.locator("main h2 .id")).to_have_text(battle)


def saved(page: Any, words: str) -> None:
    expect(page.locator("#status")).to_contain_text(words)


# --- keys and labels ------------------------------------------------------------------------------


def test_keys_move_label_and_the_file_has_it(opened: Callable[..., Any], plain: Path) -> None:
    seen = opened()
    page = seen.page
    at(page, "b0")
    page.keyboard.press("a")
    saved(page, "Saved: A. You have 1 label.")
    assert labels(plain) == {"b0": ("1", "0", "0")}
    for key, battle, words in (("b", "b1", "Saved: B"), ("t", "b2", "Saved: tie")):
        page.keyboard.press("j")
        page.keyboard.press(key)  # at once: it is meant for the battle that is on its way
        at(page, battle)
        saved(page, words)
    assert labels(plain) == {"b0": ("1", "0", "0"), "b1": ("0", "1", "0"), "b2": ("0", "0", "1")}
    page.keyboard.press("k")
    at(page, "b1")
    expect(page.locator("[data-choice=b]")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("n")
    saved(page, "No label. You have 2 labels.")
    assert labels(plain) == {"b0": ("1", "0", "0"), "b2": ("0", "0", "1")}
    assert not seen.complaints
    assert not seen.abroad
    code, _, said = seen.served.end()
    assert code == 0
    assert "saved 4 times" in said
    assert "my-labels.csv has 2 labels" in said


def test_labels_outlive_a_kill_and_are_there_again(opened: Callable[..., Any], plain: Path) -> None:
    seen = opened()
    seen.page.keyboard.press("t")
    saved(seen.page, "Saved: tie")
    seen.served.end(signal.SIGKILL)
    seen.page.keyboard.press("a")
    expect(seen.page.locator("#trouble")).to_contain_text("does not answer")
    expect(seen.page.locator("[data-choice=tie]")).to_have_attribute("aria-pressed", "true")
    assert labels(plain) == {"b0": ("0", "0", "1")}
    again = opened()
    expect(again.page.locator("[data-choice=tie]")).to_have_attribute("aria-pressed", "true")
    expect(again.page.locator(".line").first).to_contain_text("you tie")


def test_a_click_labels_too_and_a_note_is_kept(opened: Callable[..., Any], plain: Path) -> None:
    page = opened().page
    page.locator("[data-choice=b]").click()
    saved(page, "Saved: B")
    page.locator("#note").fill('because, "so" it is')
    page.keyboard.press("Enter")
    saved(page, "Note saved")
    with (plain / "my-labels.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["id"], row["winner_model_b"], row["note"]) == ("b0", "1", 'because, "so" it is')


def test_letters_that_are_typed_label_nothing(opened: Callable[..., Any], plain: Path) -> None:
    page = opened().page
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("tab")
    expect(page.locator("#count")).to_have_text("No battle is like that.")
    page.keyboard.press("Escape")
    expect(page.locator("#search")).to_have_value("tab")
    page.keyboard.press("Control+a")
    page.get_by_role("button", name="Show all battles").click()
    at(page, "b0")
    assert not (plain / "my-labels.csv").exists()


def test_keys_can_be_switched_off_and_the_help_says_what_they_do(
    opened: Callable[..., Any], plain: Path
) -> None:
    page = opened().page
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("A is better")
    page.keyboard.press("a")
    page.get_by_label("Single keys do something").uncheck()
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("j")
    page.keyboard.press("b")
    page.locator("#next").click()
    at(page, "b1")
    assert not (plain / "my-labels.csv").exists()


# --- what is shown --------------------------------------------------------------------------------


def test_filters_and_search_choose_the_battles(opened: Callable[..., Any]) -> None:
    page = opened().page
    ids = page.locator("main h2 .id")
    page.locator("#show").select_option("surprising")
    expect(ids).to_have_text("b1")
    expect(page.locator("#count")).to_have_text("4 battles")
    page.locator("#show").select_option("disagree")
    expect(ids).to_have_text("b0")
    expect(page.locator("#count")).to_have_text("1 battle")
    page.locator("#show").select_option("unjudged")
    expect(ids).to_have_text("b4")
    expect(page.locator(".verdicts")).to_contain_text("unjudged")
    page.locator("#show").select_option("all")
    page.locator("#label").select_option("tie")
    expect(ids).to_have_text("b2")
    page.locator("#label").select_option("")
    page.locator("#search").fill("STRASSE")
    expect(ids).to_have_text("b1")
    assert page.evaluate("CSS.highlights.has('search')")


def test_a_battle_shows_its_turns_its_label_and_every_judges_probabilities(
    opened: Callable[..., Any],
) -> None:
    page = opened("&at=3").page
    at(page, "b3")
    expect(page.get_by_role("heading", name="Response A, turn 2 of 2")).to_be_visible()
    expect(page.locator(".side.b .prose")).to_have_text(["uno", "dos"])
    verdicts = page.locator(".verdicts tbody tr")
    expect(verdicts.nth(0)).to_contain_text("A")
    expect(verdicts.nth(1)).to_contain_text("34.0%")
    expect(verdicts.nth(2)).to_contain_text("50.0%")
    a, b = (page.locator(f".side.{side}").first.bounding_box() for side in "ab")
    assert a["y"] == b["y"]
    assert a["x"] + a["width"] <= b["x"]


def test_a_reload_comes_back_to_the_same_battle(opened: Callable[..., Any]) -> None:
    page = opened().page
    page.locator("#show").select_option("surprising")
    at(page, "b1")
    page.keyboard.press("j")
    at(page, "b3")
    page.reload()
    at(page, "b3")
    expect(page.locator("#show")).to_have_value("surprising")


def test_markdown_can_be_seen_as_it_is_written(opened: Callable[..., Any]) -> None:
    page = opened().page
    expect(page.locator(".side.a strong")).to_have_text("four")
    page.keyboard.press("m")
    expect(page.locator(".side.a .prose")).to_have_text("It is **four**.")
    page.keyboard.press("m")
    expect(page.locator(".side.a strong")).to_have_text("four")


def test_what_others_said_can_be_hidden_until_one_has_labelled(
    opened: Callable[..., Any],
) -> None:
    page = opened().page
    page.keyboard.press("v")
    for part in (".verdicts", ".side .model", ".line .bar", ".line .chip"):
        expect(page.locator(part).first).to_be_hidden()
    page.keyboard.press("b")
    for part in (".verdicts", ".side .model", ".line .bar"):
        expect(page.locator(part).first).to_be_visible()
    page.keyboard.press("j")
    at(page, "b1")
    expect(page.locator(".verdicts")).to_be_hidden()


def test_light_and_dark_follow_the_system_and_the_switch(opened: Callable[..., Any]) -> None:
    page = opened(color_scheme="dark").page
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.locator("#theme").click()
    light = page.evaluate(ground)
    assert sum(map(int, light[4:-1].split(","))) > 600 > sum(map(int, dark[4:-1].split(",")))
    page.locator("#theme").click()
    assert page.evaluate(ground) == dark
    page.reload()
    expect(page.locator("#theme")).to_contain_text("dark")


def test_on_a_phone_there_is_one_column_and_nothing_sticks_out(
    opened: Callable[..., Any],
) -> None:
    page = opened(viewport=PHONE, has_touch=True, is_mobile=True).page
    a, b = (page.locator(f".side.{side}").first.bounding_box() for side in "ab")
    assert b["y"] >= a["y"] + a["height"]
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0
    expect(page.locator("#list")).to_be_hidden()
    page.get_by_role("button", name="List").tap()
    page.locator(".line").nth(2).tap()
    at(page, "b2")
    expect(page.locator("#list")).to_be_hidden()
    page.locator("[data-choice=tie]").tap()
    saved(page, "Saved: tie")


def test_everything_that_can_be_used_has_a_name_and_landmarks_are_there(
    opened: Callable[..., Any],
) -> None:
    page = opened().page
    for role in ("banner", "main", "navigation", "search", "region", "status"):
        expect(page.get_by_role(role).first).to_be_attached()
    nameless = """[...document.querySelectorAll("button, input, select, a")].filter((one) =>
      !(one.labels?.length || one.textContent.trim() || one.getAttribute("aria-label")))
      .map((one) => one.outerHTML)"""
    assert page.evaluate(nameless) == []
    page.keyboard.press("Tab")
    focused = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(focused) == "solid"


def test_the_address_of_an_earlier_run_says_so(
    plain: Path, served: Callable[..., Any], visit: Callable[..., Any]
) -> None:
    here = served(plain, "sure.csv", "battles.csv")
    seen = visit(here.url.partition("#")[0] + "#token=old")
    expect(seen.page.locator("#trouble")).to_contain_text("earlier run")
    assert "colour" not in seen.page.content()


# --- hostile battles ------------------------------------------------------------------------------

HOSTILE = [
    f"<script>{RUNS}</script>",
    f"<img src='{BEACON}' onerror='{RUNS}'><svg onload='{RUNS}'>",
    f"[click](javascript:{RUNS.replace(' ', '')}) [x](data:text/html,<script>{RUNS}</script>)",
    f"![beacon]({BEACON}) [![b]({BEACON})](https://safe.example/)",
    f"</div></main><iframe srcdoc='<script>{RUNS}</script>'></iframe><base href='//evil.example/'>",
    f"<style>@import '{BEACON}'; * {{ display: none }}</style><meta http-equiv=refresh content=0>",
    "left \u202eright\u202c \u2066x\u2069 \x1b[31mred\x00 \u200b \U000e0041",
    "half a character: \ufffd, and a form: <form action=//evil.example><input name=x>",
    '"><a href="javascript:x" autofocus onfocus=x>x</a>\n\n| <b onclick=x> |\n|-|\n| `<i>` |',
    "<http://safe.example/> [text](https://safe.example/ '\"onmouseover=x')",
    "&#x3c;script&#x3e;window.harmed=true&#x3c;/script&#x3e; \\<script>",
]
IDS = [
    '../../etc/passwd"',
    "<b>id</b>",
    "a,b\nc",
    "javascript:alert(1)",
    "'; DROP TABLE battles; --",
    "%2e%2e%2f?x=1#y",
    "\u202edi",
    "=cmd|' /C calc'!A0",
    "日本語",
    "  spaced  ",
    "x" * 500,
]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder of battles, predictions and ballots that would do harm, by names that would."""
    models = (
        "<img src=x onerror='window.harmed=true'>",
        "</span><script>window.harmed=true</script>",
    )
    rows = [
        {"id": name, "prompt": text, "a": text, "b": f"*{text}*", "models": models, "label": "a"}
        for name, text in zip(IDS, HOSTILE, strict=True)
    ]
    rows.append({"id": "long", "prompt": "p", "a": "y" * 1_000_000, "b": "# " + "漢" * 1_000_000})
    write_battles(tmp_path / "<img src=x onerror=harmed=1>.csv", rows)
    proba = {str(row["id"]): (0.2, 0.5, 0.3) for row in rows}
    write_predictions(
        tmp_path / "<script>harmed=1<⁄script>.csv", proba, **{"<b>set": [HOSTILE[0]] * len(rows)}
    )
    with (tmp_path / "ballots.jsonl").open("w") as file:
        for name in IDS:
            votes = dict.fromkeys(
                ("relevance", "accuracy", "clarity", "logical_flow", "responsiveness"), "A"
            )
            words = {"reason": HOSTILE[1], "reply": HOSTILE[0], "judge": HOSTILE[4], "order": "AB"}
            file.write(json.dumps({"id": name, **votes, **words}) + "\n")
    return tmp_path


def test_hostile_battles_do_nothing_and_hide_nothing(
    hostile: Path, served: Callable[..., Any], visit: Callable[..., Any]
) -> None:
    names = ("<script>harmed=1<⁄script>.csv", "<img src=x onerror=harmed=1>.csv")
    seen = visit(served(hostile, *names, "--ballots", "ballots.jsonl").url)
    page = seen.page
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for place in range(len(IDS)):
        expect(page.locator(".place")).to_have_text(f"{place + 1} of {len(IDS) + 1}")
        for summary in page.locator("summary").all():
            summary.click()
        tags = "img, iframe, form, input, script, style, base, meta, svg, object"
        foreign = f"document.querySelectorAll('main :is({tags})').length"
        assert page.evaluate(foreign) == 0
        links = page.evaluate(
            "[...document.querySelectorAll('main a')].map((a) => [a.href, a.rel])"
        )
        for href, rel in links:
            assert href.startswith(("https://safe.example/", "http://safe.example/"))
            assert "noopener" in rel
        page.keyboard.press("a")
        saved(page, f"You have {place + 1} label")
        page.keyboard.press("j")
    assert page.evaluate("window.harmed") is None
    assert "harmed" in page.locator("#file").inner_text()  # its name is shown, not run
    assert not dialogs
    assert not seen.abroad
    assert not seen.complaints
    assert set(labels(hostile)) == {*IDS}


def test_what_turns_or_hides_text_is_shown_in_boxes(
    hostile: Path, served: Callable[..., Any], visit: Callable[..., Any]
) -> None:
    names = ("<script>harmed=1<⁄script>.csv", "<img src=x onerror=harmed=1>.csv")
    page = visit(served(hostile, *names).url + f"&at={IDS.index(chr(0x202E) + 'di')}").page
    expect(page.locator("main h2 .id")).to_have_text("<U+202E>di")
    boxes = page.locator(".side.prompt .unseen")
    expect(boxes).to_have_text(
        ["U+202E", "U+202C", "U+2066", "U+2069", "U+001B", "U+0000", "U+200B", "U+E0041"]
    )


def test_lines_of_a_million_characters_are_cut_and_shown_on_demand(
    hostile: Path, served: Callable[..., Any], visit: Callable[..., Any]
) -> None:
    names = ("<script>harmed=1<⁄script>.csv", "<img src=x onerror=harmed=1>.csv")
    seen = visit(served(hostile, *names).url + f"&at={len(IDS)}", viewport=PHONE)
    page = seen.page
    side = page.locator(".side.a")
    more = side.get_by_role("button", name="Show more")
    expect(more).to_contain_text("20,000 of 1,000,000")
    more.click()
    expect(more).to_contain_text("120,000 of 1,000,000")
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0
    page.keyboard.press("k")
    expect(page.locator(".place")).to_have_text(f"{len(IDS)} of {len(IDS) + 1}")
    assert not seen.complaints


def test_the_policy_stops_a_script_even_if_something_let_it_through(
    opened: Callable[..., Any],
) -> None:
    seen = opened()
    page = seen.page
    refused = page.evaluate(
        """() => {
          const script = document.createElement("script");
          try { script.textContent = "window.harmed = 1"; } catch { return "refused"; }
          document.body.append(script);
          return window.harmed ? "ran" : "refused";
        }"""
    )
    assert refused == "refused"
    with pytest.raises(sync_api.Error):
        page.evaluate("document.body.innerHTML = '<b>x</b>'")
    page.evaluate(f"document.body.append(Object.assign(new Image(), {{src: '{BEACON}'}}))")
    expect(page.locator("main h2")).to_be_visible()
    assert any("Content Security Policy" in complaint for complaint in seen.complaints)
