// The console: five pages over the control API, and a phone that goes on while you look at another page.

import { html, render, useEffect, useMemo, useReducer, useRef, useState } from "./vendor/htm-preact.js";
import { ask, listen, setToken, token } from "./api.js";
import { Message, usePolled } from "./parts.js";
import { Phone } from "./phone.js";
import { AvatarsView } from "./views/avatars.js";
import { CallView } from "./views/call.js";
import { CallsView } from "./views/calls.js";
import { RecordsView } from "./views/records.js";
import { SystemView } from "./views/system.js";

const PAGES = { call: "Call", calls: "Live calls", records: "Records", faces: "Faces", system: "System" };
const THEMES = ["auto", "light", "dark"];
const EVENTS_KEPT = 500;

function App() {
  const [signedIn, setSignedIn] = useState(Boolean(token()));
  const [page, go] = useState(() => (location.hash.slice(1) in PAGES ? location.hash.slice(1) : "call"));
  const [status, error] = usePolled(signedIn ? "/v1/status" : "", 3000);
  const [events, setEvents] = useState([]);
  const [chosen, choose] = useState("");
  const [call, setCall] = useState(null);
  const [wanted, want] = useState("");
  const [, changed] = useReducer((count) => count + 1, 0);
  const main = useRef(null);

  const phone = useMemo(() => new Phone({ url: `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/sip`, token: token() }), [signedIn]);

  useEffect(() => {
    if (!signedIn) return undefined;
    ask("/v1/web").then((told) => (phone.iceServers = told.ice_servers), () => {});
    const ended = new AbortController();
    listen((event) => setEvents((old) => [...old, event].slice(-EVENTS_KEPT)), ended.signal);
    return () => ended.abort();
  }, [signedIn]);

  useEffect(() => {
    const follow = () => location.hash.slice(1) in PAGES && go(location.hash.slice(1));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);

  useEffect(() => {
    if (!call) return undefined;
    const transferred = (event) => setCall(event.detail);
    call.addEventListener("state", changed);
    call.addEventListener("transfer", transferred);
    return () => {
      call.removeEventListener("state", changed);
      call.removeEventListener("transfer", transferred);
    };
  }, [call]);

  useEffect(() => {
    if (error?.status === 401) setSignedIn(false);
  }, [error]);

  // Behind a test's or a person's console: what the page is doing.
  window.visavis = { phone, call };

  if (!signedIn) return html`<${SignIn} done=${() => setSignedIn(true)} wrong=${error?.status === 401} />`;
  const views = {
    call: () => html`<${CallView} phone=${phone} call=${call} setCall=${setCall} status=${status} statusError=${error} events=${events} wanted=${wanted} took=${() => want("")} />`,
    calls: () => html`<${CallsView} events=${events} chosen=${chosen} choose=${choose} />`,
    records: () => html`<${RecordsView} />`,
    faces: () => html`<${AvatarsView} callFace=${(name) => (want(name), (location.hash = "call"))} />`,
    system: () => html`<${SystemView} status=${status} error=${error} />`,
  };
  return html`
    <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), main.current.focus())}>To the content</a>
    <header class="top">
      <a class="brand" href="#call"><img src="/console/icon.svg" alt="" width="28" height="28" /> Visavis</a>
      <nav aria-label="Pages">
        ${Object.entries(PAGES).map(([name, title]) => html`<a key=${name} href=${`#${name}`} aria-current=${name === page ? "page" : undefined}>${title}</a>`)}
      </nav>
      <${Light} status=${status} error=${error} />
      <${Theme} />
    </header>
    <main id="main" ref=${main} tabindex="-1">${views[page]()}</main>
    ${call && !call.over && page !== "call" && html`<div class="floating"><span>In a call with ${call.user}</span><a href="#call">Back</a><button type="button" class="stop" onClick=${() => call.hangUp()}>Hang up</button></div>`}
  `;
}

/** Green, yellow, red; the sentence is the light's name. */
function Light({ status, error }) {
  const [kind, words] = error ? ["bad", error.message] : !status ? ["wait", "Asking …"] : !status.takes_calls ? ["bad", status.missing[0]] : status.talking_face ? ["good", "Ready"] : ["wait", status.missing[0]];
  return html`<a class=${`light ${kind}`} href="#system" title=${words}><span class="dot" aria-hidden="true"></span><span class="words">${words}</span></a>`;
}

function Theme() {
  const [theme, setTheme] = useState(localStorage.getItem("visavis-theme") ?? "auto");
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("visavis-theme", theme);
  }, [theme]);
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  return html`<button type="button" class="theme" onClick=${() => setTheme(next)} aria-label=${`Colours: ${theme}; change to ${next}`}>${{ auto: "◐", light: "☀", dark: "☾" }[theme]}</button>`;
}

function SignIn({ done, wrong }) {
  const [value, setValue] = useState("");
  const enter = (event) => {
    event.preventDefault();
    setToken(value);
    done();
  };
  return html`<main class="signin">
    <h1><img src="/console/icon.svg" alt="" width="36" height="36" /> Visavis</h1>
    <p>This console needs the orchestrator's token. Open the URL that <code>make run</code> prints, or paste what <code>visavis-token</code> prints on that machine.</p>
    ${wrong && html`<${Message}>This token is not valid here.<//>`}
    <form class="row" onSubmit=${enter}>
      <input type="password" aria-label="Token" autocomplete="off" value=${value} onInput=${(event) => setValue(event.target.value)} />
      <button type="submit" class="go">Open</button>
    </form>
  </main>`;
}

render(html`<${App} />`, document.getElementById("app"));
