// Small parts that several views use.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { ask } from "./api.js";

export const seconds = (value) => {
  const whole = Math.max(0, Math.floor(value));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};

export const clock = (unix) => (unix ? new Date(unix * 1000).toLocaleTimeString() : "");

export const when = (unix) => (unix ? new Date(unix * 1000).toLocaleString() : "");

/** A value that is asked for anew every so many milliseconds while the page is seen: [value, error, ask now]. */
export function usePolled(path, every) {
  const [state, setState] = useState({ value: null, error: null });
  const again = useRef(() => {});
  useEffect(() => {
    let gone = false;
    let first = true;
    let timer = 0;
    const look = async () => {
      clearTimeout(timer);
      try {
        const value = path && (first || !document.hidden) ? await ask(path) : undefined;
        first = false;
        if (!gone && value !== undefined) setState({ value, error: null });
      } catch (error) {
        if (!gone) setState((old) => ({ value: old.value, error }));
      }
      if (!gone) timer = setTimeout(look, every);
    };
    again.current = look;
    look();
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [path, every]);
  return [state.value, state.error, () => again.current()];
}

/** A portrait of the API, which wants a token and so cannot be a plain src. */
export function Portrait({ name, version = 0, alt = "" }) {
  const [url, setUrl] = useState("");
  useEffect(() => {
    let made = "";
    let gone = false;
    ask(`/v1/avatars/${encodeURIComponent(name)}`).then((blob) => {
      if (gone) return;
      made = URL.createObjectURL(blob);
      setUrl(made);
    }, () => setUrl(""));
    return () => {
      gone = true;
      URL.revokeObjectURL(made);
    };
  }, [name, version]);
  return url ? html`<img class="portrait" src=${url} alt=${alt} />` : html`<span class="portrait" role="img" aria-label=${alt}></span>`;
}

export function Figure({ label, value, unit = "" }) {
  return html`<div class="figure"><dt>${label}</dt><dd>${value ?? "–"}${value == null || !unit ? "" : html` <small>${unit}</small>`}</dd></div>`;
}

export function Message({ kind = "error", children }) {
  return html`<p class=${`message ${kind}`} role=${kind === "error" ? "alert" : "status"}>${children}</p>`;
}

export function Empty({ title, children }) {
  return html`<div class="empty"><h2>${title}</h2><p>${children}</p></div>`;
}

/** A button whose work may fail: it waits, and tells its error to `failed`. */
export function Act({ work, failed = () => {}, children, ...rest }) {
  const [busy, setBusy] = useState(false);
  const press = async () => {
    setBusy(true);
    try {
      await work();
      failed(null);
    } catch (error) {
      failed(error);
    }
    setBusy(false);
  };
  return html`<button type="button" ...${rest} disabled=${busy || rest.disabled} aria-busy=${busy} onClick=${press}>${children}</button>`;
}

/** What both sides say, out of a call's events: the caller's words so far in grey until they are settled. */
export function Captions({ events }) {
  const end = useRef(null);
  const lines = [];
  for (const event of events) {
    if (event.event === "transcript") {
      const last = lines.at(-1);
      if (last && last.who === "Caller" && !last.final) lines.pop();
      lines.push({ who: "Caller", text: event.text, final: event.final });
    } else if (event.event === "reply") {
      lines.push({ who: "Face", text: event.text + (event.whole ? "" : " …"), final: true });
    }
  }
  useEffect(() => end.current?.scrollTo?.(0, end.current.scrollHeight), [lines.length]);
  if (!lines.length) return null;
  return html`<ol class="lines captions" ref=${end} tabindex="0" aria-live="polite" aria-label="Captions">
    ${lines.slice(-40).map((line, index) => html`<li key=${index} class=${line.final ? "" : "hint"}><strong>${line.who}</strong> ${line.text}</li>`)}
  </ol>`;
}

const KEYS = "123456789*0#";

export function Keypad({ press }) {
  return html`<div class="keypad" role="group" aria-label="Keys">
    ${[...KEYS].map((key) => html`<button type="button" key=${key} onClick=${() => press(key)}>${key}</button>`)}
  </div>`;
}
