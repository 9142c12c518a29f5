// The control API: the token, JSON, events as they happen, pictures.

const KEY = "visavis-token";

// The token comes in the fragment, which browsers send to nobody; it stays in this tab, and leaves the address bar.
const fragment = new URLSearchParams(location.hash.slice(1));
if (fragment.get("token")) {
  sessionStorage.setItem(KEY, fragment.get("token"));
  fragment.delete("token");
  const rest = String(fragment).replace(/=$/, "");
  history.replaceState(null, "", location.pathname + (rest ? `#${rest}` : ""));
}

export const token = () => sessionStorage.getItem(KEY) ?? "";

export function setToken(value) {
  sessionStorage.setItem(KEY, value.trim());
}

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** What a route answers: JSON, null for 204. Throws Problem with the API's own sentence. */
export async function ask(path, { method = "GET", json, body, type } = {}) {
  const headers = { Authorization: `Bearer ${token()}` };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  else if (type) headers["Content-Type"] = type;
  let response;
  try {
    response = await fetch(path, { method, headers, body: json !== undefined ? JSON.stringify(json) : body });
  } catch {
    throw new Problem(0, "The orchestrator does not answer: is it running?");
  }
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    throw new Problem(response.status, told.detail ?? `The orchestrator answered ${response.status}.`);
  }
  if (response.status === 204) return null;
  const kind = response.headers.get("content-type") ?? "";
  if (kind.includes("json")) return response.json();
  return kind.startsWith("text/") ? response.text() : response.blob();
}

/** Events of calls until `signal` ends it; comes back by itself after the connection was lost. */
export async function listen(take, signal) {
  while (!signal.aborted) {
    try {
      const response = await fetch("/v1/events", { headers: { Authorization: `Bearer ${token()}` }, signal });
      if (!response.ok) return;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const parts = text.split("\n\n");
        text = parts.pop();
        for (const part of parts) {
          const data = part.split("\n").find((line) => line.startsWith("data: "));
          if (data) take(JSON.parse(data.slice(6)));
        }
      }
    } catch {
      if (signal.aborted) return;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
