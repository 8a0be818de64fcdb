// The page: a list of battles, the one that is open, keys, and one's own label of it.

import * as server from "./server.js";
import { bar, battleElements, chip, element, number } from "./battle.js";

const PAGE = 100;
const KEPT_BATTLES = 16;
const SELECTS = ["show", "judge", "label", "predicted"];
const CHOICES = { a: "A", b: "B", tie: "tie" };
const THEMES = ["auto", "light", "dark"];
const $ = (id) => document.getElementById(id);

const state = {
  query: { show: "all", judge: "0", label: "", predicted: "", search: "" },
  stamp: 0, // a list stays as it is until one asks for another
  total: 0, start: 0, rows: [],
  position: 0,
  battle: null, // the one that is shown
  plain: false,
};
const battles = new Map();
let listing = null;

// --- trouble and status ----------------------------------------------------------------------------

// To a screen reader always; to the eye where nothing else on the page says it.
function say(words, aloud = true) {
  $("status").textContent = words;
  $("status").classList.remove("shown");
  if (!aloud) return;
  void $("status").offsetWidth; // so that it appears anew
  $("status").classList.add("shown");
}

function trouble(error) {
  if (error?.name === "AbortError") return;
  if (error && !(error instanceof server.Refusal)) console.error(error);
  $("trouble").hidden = !error;
  $("trouble").textContent = error ? error.message : "";
}

// --- the list --------------------------------------------------------------------------------------

async function page(start) {
  listing?.abort();
  listing = new AbortController();
  const query = { ...state.query, stamp: `${started}-${state.stamp}`, start, count: PAGE };
  const answer = await server.list(query, listing.signal);
  Object.assign(state, { total: answer.total, start: answer.start, rows: answer.rows });
  drawList();
}

function drawList() {
  const { total, start, rows } = state;
  const last = start + rows.length;
  const range = total > rows.length ? `${number(start + 1)}–${number(last)} of ${number(total)} battles`
    : total === 1 ? "1 battle" : `${number(total)} battles`;
  $("count").textContent = total ? range : "No battle is like that.";
  $("rows").start = start + 1;
  $("rows").replaceChildren(...rows.map(line));
  $("pager").hidden = total <= PAGE;
  $("earlier").disabled = start === 0;
  $("later").disabled = last >= total;
  mark();
}

function line(row, place) {
  const chips = element("span", { class: "chips" });
  const values = { surprising: (v) => `log loss ${v.toFixed(2)}`, unsure: (v) => `${(100 * v).toFixed(0)} % unsure`,
    disagree: (v) => `apart ${v.toFixed(3)}` };
  if (row.label) chips.append(element("span", { class: "secret" }, chip(row.label, `label ${CHOICES[row.label]}`)));
  if (row.mine) chips.append(chip(row.mine, `you ${CHOICES[row.mine]}`));
  if (row.value !== null) chips.append(element("span", { class: "value secret" }, values[state.query.show](row.value)));
  const strip = row.proba ? bar(row.proba, "bar strip secret") : element("span", { class: "unjudged secret" }, "unjudged");
  const button = element("button", { type: "button", class: `line${row.mine ? " labelled" : ""}`,
    onclick: () => act(async () => { await open(state.start + place); leaveList(); }) },
    element("span", { class: "snippet", dir: "auto" }, row.snippet || "(empty prompt)"), strip, chips);
  return element("li", {}, button);
}

function mark() {
  const place = state.position - state.start;
  [...$("rows").children].forEach((item, at) => {
    const button = item.firstElementChild;
    if (at === place) {
      button.setAttribute("aria-current", "true");
      button.scrollIntoView({ block: "nearest" });
    } else button.removeAttribute("aria-current");
  });
  $("previous").disabled = state.position <= 0;
  $("next").disabled = state.position >= state.total - 1;
}

// Another list; opens its first battle, or the one at `position`.
async function refresh(position = 0) {
  state.stamp += 1;
  await page(Math.floor(position / PAGE) * PAGE);
  if (state.total === 0) return empty();
  await open(Math.min(position, state.total - 1));
}

function empty() {
  state.battle = null;
  state.position = 0;
  $("own").hidden = true;
  $("battle").replaceChildren(element("div", { class: "nothing" },
    element("p", {}, "No battle is like that."),
    element("button", { type: "button", class: "plain-button", onclick: showAll }, "Show all battles")));
  say("No battle is like that.", false);
  keep();
}

function showAll() {
  Object.assign(state.query, { show: "all", label: "", predicted: "", search: "" });
  fill();
  act(() => refresh());
}

// --- a battle --------------------------------------------------------------------------------------

function fetched(row) {
  const key = `${row} ${state.plain}`;
  let promise = battles.get(key);
  if (!promise) {
    promise = server.battle(row, state.plain);
    promise.catch(() => battles.delete(key));
    battles.set(key, promise);
    if (battles.size > KEPT_BATTLES) battles.delete(battles.keys().next().value);
  }
  return promise;
}

async function open(position) {
  if (position < 0 || position >= state.total) return;
  if (position < state.start || position >= state.start + state.rows.length) {
    await page(Math.floor(position / PAGE) * PAGE);
  }
  const row = state.rows[position - state.start]?.row;
  if (row === undefined) return;
  const battle = await fetched(row);
  state.position = position;
  state.battle = battle;
  draw();
  window.scrollTo({ top: 0 });
  mark();
  keep();
  say(`Battle ${number(position + 1)} of ${number(state.total)}`, false);
  const next = state.rows[position + 1 - state.start];
  if (next) fetched(next.row).catch(() => {});
}

function draw() {
  const battle = state.battle;
  const place = `${number(state.position + 1)} of ${number(state.total)}`;
  $("battle").replaceChildren(...battleElements(battle, { plain: state.plain, place, onplain: togglePlain }));
  $("own").hidden = false;
  drawOwn();
  highlight();
}

function drawOwn() {
  const battle = state.battle;
  for (const button of document.querySelectorAll("[data-choice]")) {
    const choice = button.dataset.choice === "none" ? null : button.dataset.choice;
    button.setAttribute("aria-pressed", String(choice === battle.mine));
    button.disabled = !battle.alone;
    button.title = battle.alone ? "" : "Other battles have the same id, and labels are kept by id";
  }
  if (document.activeElement !== $("note")) $("note").value = battle.note;
  $("note").disabled = !battle.alone;
  $("battle").classList.toggle("labelled", Boolean(battle.mine));
}

function togglePlain() {
  act(async () => {
    if (!state.battle) return;
    state.plain = !state.plain;
    state.battle = await fetched(state.battle.row);
    draw();
    say(state.plain ? "Text as it is written" : "Text as Markdown");
  });
}

// --- one's own label -------------------------------------------------------------------------------

async function give(battle, label, note) {
  const saved = await server.give(battle.row, label, note);
  for (const plain of [true, false]) {
    const known = await battles.get(`${battle.row} ${plain}`)?.catch(() => null);
    if (known) Object.assign(known, { mine: saved.mine, note: saved.note });
  }
  Object.assign(battle, { mine: saved.mine, note: saved.note });
  const row = state.rows.find((candidate) => candidate.row === battle.row);
  if (row && row.mine !== saved.mine) {
    row.mine = saved.mine;
    $("rows").children[state.rows.indexOf(row)].replaceWith(line(row, state.rows.indexOf(row)));
    mark();
  }
  if (state.battle?.row === battle.row) drawOwn();
  return saved;
}

async function choose(choice) {
  const battle = state.battle;
  if (!battle) return;
  if (!battle.alone) throw new server.Refusal("Other battles have the same id, and labels are kept by id.");
  const label = choice === "none" ? null : choice;
  const saved = await give(battle, label, $("note").value);
  const many = saved.count === 1 ? "1 label" : `${number(saved.count)} labels`;
  say(label ? `Saved: ${CHOICES[label]}. You have ${many}.` : `No label. You have ${many}.`);
  if (label && $("advance").checked) await open(state.position + 1);
}

function saveNote() {
  const battle = state.battle;
  const note = $("note").value;
  if (!battle || note === battle.note) return;
  act(async () => {
    await give(battle, battle.mine, note);
    say("Note saved.");
  });
}

// --- what is done, one thing after the other -------------------------------------------------------

let doing = Promise.resolve();
let waiting = 0;

// A key pressed while a battle is still on its way is meant for that battle.
function act(action) {
  waiting += 1;
  doing = doing.then(action).then(() => trouble(null), trouble).finally(() => { waiting -= 1; });
  return doing;
}

const ACTIONS = {
  j: () => act(() => open(state.position + 1)),
  k: () => act(() => open(state.position - 1)),
  a: () => act(() => choose("a")),
  b: () => act(() => choose("b")),
  t: () => act(() => choose("tie")),
  n: () => act(() => choose("none")),
  m: togglePlain,
  v: () => { $("blind").checked = !$("blind").checked; setBlind(); },
  "/": () => { $("search").focus(); $("search").select(); },
  "?": () => $("help").showModal(),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const typing = event.target.closest?.("input:not([type=checkbox]), textarea, select");
  if (event.key === "Escape" && typing) {
    event.preventDefault(); // it would empty the search
    return event.target.blur();
  }
  const action = ACTIONS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action || typing || $("help").open || !$("keys").checked) return;
  if (event.repeat && (waiting || !"jk".includes(event.key))) return;
  event.preventDefault();
  action();
}

// --- search words in the text ----------------------------------------------------------------------

function highlight() {
  if (!window.Highlight) return;
  CSS.highlights.delete("search");
  const words = [...state.query.search.matchAll(/"([^"]+)"|(\S+)/g)]
    .map(([, phrase, word]) => (phrase ?? word.replaceAll('"', "")).toLowerCase()).filter(Boolean);
  if (!words.length) return;
  const ranges = [];
  const walker = document.createTreeWalker($("battle"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode() && ranges.length < 2000) {
    const text = walker.currentNode.data.toLowerCase();
    if (text.length !== walker.currentNode.data.length || !walker.currentNode.parentElement.closest(".prose, .id, .model")) continue;
    for (const word of words) {
      for (let at = text.indexOf(word); at >= 0 && ranges.length < 2000; at = text.indexOf(word, at + word.length)) {
        const range = new Range();
        range.setStart(walker.currentNode, at);
        range.setEnd(walker.currentNode, at + word.length);
        ranges.push(range);
      }
    }
  }
  CSS.highlights.set("search", new Highlight(...ranges));
}

// --- settings, kept where there is room ------------------------------------------------------------

function stored(name, value) {
  try {
    if (value === undefined) return localStorage.getItem(`arena-judge ${name}`);
    localStorage.setItem(`arena-judge ${name}`, value);
  } catch { /* a browser that keeps nothing */ }
  return null;
}

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme-name").textContent = theme;
  stored("theme", theme);
}

function setBlind() {
  document.body.classList.toggle("blind", $("blind").checked);
  stored("blind", $("blind").checked ? "1" : "");
  say($("blind").checked ? "What others said is hidden" : "What others said is shown");
}

function leaveList() {
  document.body.classList.remove("listing");
  $("list-button").setAttribute("aria-expanded", "false");
}

function keep() {
  const { show, judge, label, predicted, search } = state.query;
  server.remember({ show: show === "all" ? "" : show, judge: judge === "0" ? "" : judge, label, predicted, search,
    at: state.position });
}

function fill() {
  for (const name of [...SELECTS, "search"]) $(name).value = state.query[name];
}

// --- beginning -------------------------------------------------------------------------------------

const started = Date.now().toString(36) + Math.random().toString(36).slice(2, 8);

function listen() {
  for (const name of SELECTS) {
    $(name).addEventListener("change", () => { state.query[name] = $(name).value; act(() => refresh()); });
  }
  let pause;
  const searchNow = () => {
    clearTimeout(pause);
    if (state.query.search === $("search").value) return;
    state.query.search = $("search").value;
    act(() => refresh());
  };
  $("search").addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(searchNow, 250); });
  $("search-form").addEventListener("submit", (event) => { event.preventDefault(); searchNow(); $("search").blur(); });
  $("earlier").addEventListener("click", () => act(() => open(state.start - PAGE)));
  $("later").addEventListener("click", () => act(() => open(state.start + PAGE)));
  $("previous").addEventListener("click", ACTIONS.k);
  $("next").addEventListener("click", ACTIONS.j);
  for (const button of document.querySelectorAll("[data-choice]")) {
    button.addEventListener("click", () => act(() => choose(button.dataset.choice)));
  }
  let noting;
  $("note").addEventListener("input", () => { clearTimeout(noting); noting = setTimeout(saveNote, 500); });
  $("note").addEventListener("change", () => { clearTimeout(noting); saveNote(); });
  $("note").addEventListener("keydown", (event) => { if (event.key === "Enter") event.target.blur(); });
  $("blind").addEventListener("change", setBlind);
  $("advance").addEventListener("change", () => stored("advance", $("advance").checked ? "1" : ""));
  $("keys").addEventListener("change", () => stored("keys", $("keys").checked ? "1" : "0"));
  $("theme").addEventListener("click", () => {
    const now = document.documentElement.dataset.theme ?? "auto";
    setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
  });
  $("help-button").addEventListener("click", ACTIONS["?"]);
  $("list-button").addEventListener("click", () => {
    const shown = document.body.classList.toggle("listing");
    $("list-button").setAttribute("aria-expanded", String(shown));
  });
  document.addEventListener("keydown", onKey);
}

async function begin() {
  setTheme(THEMES.includes(stored("theme")) ? stored("theme") : "auto");
  $("blind").checked = Boolean(stored("blind"));
  document.body.classList.toggle("blind", $("blind").checked);
  $("advance").checked = Boolean(stored("advance"));
  $("keys").checked = stored("keys") !== "0";
  const about = await server.about();
  $("file").textContent = about.file;
  document.title = `${about.file} – arena-judge view`;
  $("labels-file").textContent = about.labels_file;
  $("judge").replaceChildren(...about.judges.map((name, at) => element("option", { value: String(at) }, name)));
  $("judge-field").hidden = about.judges.length < 2;
  const option = (value) => $("show").querySelector(`[value=${value}]`);
  option("surprising").disabled = !about.labelled && !about.mine;
  if (about.judges.length < 2) option("disagree").remove();
  else option("disagree").textContent += ` (${number(about.contested)})`;
  option("unjudged").textContent += ` (${number(about.unjudged)})`;
  const { at, ...query } = server.remembered();
  Object.assign(state.query, query);
  fill();
  for (const name of SELECTS) if (!$(name).value) { state.query[name] = $(name).options[0].value; }
  fill();
  await refresh(Number.parseInt(at, 10) || 0);
}

listen();
act(begin);
