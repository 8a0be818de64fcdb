// One battle as elements. Text goes in as text; HTML only where the server has sanitised it.

import * as server from "./server.js";

const policy = window.trustedTypes?.createPolicy("battle", { createHTML: (html) => html }) ?? {
  createHTML: (html) => html,
};
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const share = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });
const whole = new Intl.NumberFormat("en");
const CHOICES = { a: "A", tie: "tie", b: "B" };
const SIDES = { prompt: "Prompt", a: "Response A", b: "Response B" };

export const number = (value) => whole.format(value);

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role" || name === "scope" || name === "colspan") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function sanitised(html, className) {
  const made = element("div", { class: className, dir: "auto" });
  made.innerHTML = policy.createHTML(html);
  return made;
}

// --- probabilities ---------------------------------------------------------------------------------

// A, tie, B from left to right, as wide as they are probable; the words beside it say the same.
export function bar(proba, className = "bar") {
  const made = element("span", { class: className, "aria-hidden": "true" });
  const [a, b, tie] = proba;
  for (const [name, share] of [["a", a], ["tie", tie], ["b", b]]) {
    const part = element("span", { class: `share ${name}` });
    part.style.flexGrow = share;
    made.append(part);
  }
  return made;
}

function figures([a, b, tie], choice) {
  const parts = [["a", a], ["tie", tie], ["b", b]].map(([name, share]) =>
    element("span", { class: `figure ${name}${name === choice ? " most" : ""}` },
      element("span", { class: "name" }, CHOICES[name]), ` ${percent.format(share)}`));
  return element("span", { class: "figures" }, ...parts);
}

export function chip(choice, words) {
  return element("span", { class: `chip ${choice ?? "none"}` }, words);
}

function verdicts(battle) {
  const rows = [];
  if (battle.label) {
    const sure = Math.max(...battle.label) === 1;
    const shown = sure ? chip(battle.chosen, CHOICES[battle.chosen]) : figures(battle.label, battle.chosen);
    rows.push(verdict("People", "said by people", sure ? [shown] : [bar(battle.label), shown], "", ""));
  }
  for (const judge of battle.judges) rows.push(judged(judge));
  const head = element("tr", {}, ...["Who", "What they say", "Log loss", "Entropy"].map((name) =>
    element("th", { scope: "col" }, name)));
  return element("table", { class: "verdicts" },
    element("caption", { class: "unseen-label" }, "What people and judges say of this battle"),
    element("thead", {}, head), element("tbody", {}, ...rows));
}

function judged(judge) {
  const also = Object.entries(judge.also).map(([name, cell]) =>
    element("span", { class: "also" }, `${name}: ${cell}`));
  if (!judge.proba) {
    const why = judge.reason ? `unjudged: ${judge.reason}` : "unjudged";
    return verdict(judge.name, "", [element("span", { class: "unjudged" }, why), ...also], "", "");
  }
  return verdict(
    judge.name, "", [bar(judge.proba), figures(judge.proba, judge.choice), ...also],
    judge.surprise === null ? "" : judge.surprise.toFixed(3),
    percent.format(judge.uncertainty),
  );
}

function verdict(who, title, said, loss, unsure) {
  return element("tr", {},
    element("th", { scope: "row", class: "who", title }, who),
    element("td", { class: "said" }, ...said),
    element("td", { class: "amount", "data-name": "log loss" }, loss),
    element("td", { class: "amount", "data-name": "entropy", title: "Of the most there can be" }, unsure));
}

// --- votes -----------------------------------------------------------------------------------------

const VOTES = [["A", "a"], ["AB", "tie"], ["B", "b"], ["NA", "na"]];

function votes(judges) {
  if (!judges?.length) return null;
  const head = element("tr", {}, element("th", { scope: "col" }, "Criterion"),
    ...judges.map((judge) => element("th", { scope: "col" }, judge.judge,
      element("span", { class: "many" }, judge.count === 1 ? " 1 ballot" : ` ${number(judge.count)} ballots`))));
  const rows = judges[0].tallies.map((tally, place) => element("tr", {},
    element("th", { scope: "row" }, tally.criterion),
    ...judges.map((judge) => element("td", {}, ...tallied(judge.tallies[place])))));
  return element("section", { class: "votes", "aria-labelledby": "votes-title" },
    element("h3", { id: "votes-title" }, "Votes by criterion"),
    element("div", { class: "wide" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows))));
}

function tallied({ shares, voted }) {
  if (!shares) return [element("span", { class: "unjudged" }, "no vote")];
  const [a, b, both, none] = shares;
  const shareOf = { A: a, B: b, AB: both, NA: none };
  const strip = element("span", { class: "bar thin", "aria-hidden": "true" });
  for (const [vote, name] of VOTES) {
    const part = element("span", { class: `share ${name}` });
    part.style.flexGrow = shareOf[vote];
    strip.append(part);
  }
  const certain = voted === 1 && Math.max(...shares) > 0.9995; // a vote, not a distribution
  const said = VOTES.filter(([vote]) => shareOf[vote] >= 0.005).map(([vote, name]) =>
    element("span", { class: `figure ${name}` },
      element("span", { class: "name" }, vote), certain ? "" : ` ${share.format(shareOf[vote])}`));
  return [element("div", { class: "tally" }, strip, element("span", { class: "figures" }, ...said))];
}

function allBallots(judges) {
  if (!judges?.length) return null;
  return element("div", { class: "all-ballots" }, ...judges.map((judge) => ballots(judge, judges.length > 1)));
}

function ballots(judge, named) {
  const title = judge.count > judge.ballots.length
    ? `The first ${judge.ballots.length} ballots` : judge.count === 1 ? "The ballot" : `All ${judge.count} ballots`;
  const said = judge.ballots.some((ballot) => ballot.reason || ballot.cut || ballot.reply);
  const names = ["order", "sample", ...judge.tallies.map((tally) => tally.criterion), ...(said ? ["what was said"] : [])];
  const rows = judge.ballots.map((ballot) => element("tr", {},
    element("td", {}, ballot.order || "–"),
    element("td", {}, ballot.part ? `${ballot.sample}, part ${ballot.part}` : String(ballot.sample)),
    ...ballot.votes.map((vote) => element("td", { class: `vote ${vote ?? "none"}` }, vote ?? "–")),
    said ? element("td", { class: "reply", dir: "auto" },
      ...[ballot.reason && `no votes: ${ballot.reason}`, ballot.cut && `${number(ballot.cut)} left out`, ballot.reply]
        .filter(Boolean).map((text) => element("span", { class: "piece" }, text))) : null));
  return element("details", { class: "ballots" },
    element("summary", {}, named ? `${title}: ${judge.judge}` : title),
    element("div", { class: "wide" }, element("table", {},
      element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {}, ...rows))));
}

// --- the conversation ------------------------------------------------------------------------------

function side(battle, turn, name, total) {
  const text = turn[name];
  const models = battle.models;
  const model = models && name !== "prompt" ? models[name === "a" ? 0 : 1] : null;
  const title = `${SIDES[name]}${total > 1 ? `, turn ${turn.turn + 1} of ${number(total)}` : ""}`;
  const body = sanitised(text.html, "prose");
  const made = element("section", { class: `side ${name}` },
    element("h3", {}, element("span", { class: "letter" }, title),
      model ? element("span", { class: "model secret" }, model) : null,
      element("span", { class: "length" }, text.length ? `${number(text.length)} characters` : "empty")),
    body);
  if (text.shown < text.length) made.append(more(battle.row, name, turn.turn, text, body));
  return made;
}

// A text that was cut goes on as plain text, a piece at a time.
function more(row, name, turn, text, body) {
  let shown = text.shown;
  const words = () => `Show more (${number(shown)} of ${number(text.length)} characters shown)`;
  const button = element("button", { type: "button", class: "more" }, words());
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const piece = await server.moreText(row, name, turn, shown);
      body.append(sanitised(piece.html, "rest"));
      shown = piece.shown;
      if (shown >= piece.length) button.remove();
      else button.textContent = words();
    } catch (error) {
      button.textContent = `${error.message} Try again`;
    }
    button.disabled = false;
  });
  return button;
}

function turns(battle, conversation) {
  return conversation.turns.map((turn) => element("div", { class: "turn" },
    side(battle, turn, "prompt", conversation.total),
    element("div", { class: "pair" },
      side(battle, turn, "a", conversation.total), side(battle, turn, "b", conversation.total))));
}

function furtherTurns(battle, conversation, plain) {
  let next = conversation.first + conversation.turns.length;
  if (next >= conversation.total) return null;
  const words = () => `Show more turns (${next} of ${number(conversation.total)} shown)`;
  const button = element("button", { type: "button", class: "more turns" }, words());
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const { conversation: further } = await server.battle(battle.row, plain, next);
      button.before(...turns(battle, further));
      next = further.first + further.turns.length;
      if (next >= further.total) button.remove();
      else button.textContent = words();
    } catch (error) {
      button.textContent = `${error.message} Try again`;
    }
    button.disabled = false;
  });
  return button;
}

// Everything about a battle, to be put into <main>.
export function battleElements(battle, { plain, place, onplain }) {
  const toggle = element("button", {
    type: "button", class: "quiet", "aria-pressed": String(plain), "aria-keyshortcuts": "m", onclick: onplain,
  }, "As written");
  const hidden = element("p", { class: "hidden-note" }, "What others said is hidden until you have labelled this battle.");
  return [
    element("div", { class: "title" },
      element("h2", { tabIndex: -1 }, "Battle ", element("span", { class: "id" }, battle.id)),
      element("span", { class: "place" }, place), toggle),
    hidden, element("div", { class: "summary secret" }, verdicts(battle), votes(battle.votes), allBallots(battle.votes)),
    ...turns(battle, battle.conversation), furtherTurns(battle, battle.conversation, plain),
  ].filter(Boolean);
}
