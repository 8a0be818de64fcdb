// What the page asks of the server. The token is in the address's fragment, which no server sees.

const parameters = new URLSearchParams(location.hash.slice(1));
const token = parameters.get("token") ?? "";

export class Refusal extends Error {}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, {
      ...options,
      headers: { "X-Arena-Judge-Token": token, ...options.headers },
      credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The server does not answer: start arena-judge view again.");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.status === 403) {
    throw new Refusal("This address is of an earlier run: open the one that arena-judge view printed last.");
  }
  if (!response.ok) throw new Refusal(answer.error ?? `The server failed (${response.status}).`);
  return answer;
}

export const about = () => ask("/api/about");

export const list = (query, signal) =>
  ask(`/api/list?${new URLSearchParams(query)}`, { signal });

export const battle = (row, plain, turn = 0) =>
  ask(`/api/battles/${row}?${new URLSearchParams({ plain, turn })}`);

export const moreText = (row, side, turn, start) =>
  ask(`/api/battles/${row}/text?${new URLSearchParams({ side, turn, start })}`);

export const give = (row, label, note) =>
  ask(`/api/battles/${row}/label`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ label, note }),
  });

// Where one is, kept in the address beside the token, so that a reload comes back to it.
export function remembered() {
  return Object.fromEntries([...parameters].filter(([name]) => name !== "token"));
}

export function remember(state) {
  const kept = Object.entries(state).filter(([, value]) => value !== "" && value !== 0);
  const fragment = new URLSearchParams([["token", token], ...kept]);
  history.replaceState(null, "", `#${fragment}`);
}
