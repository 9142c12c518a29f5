// Calls under way: figures, and everything that can be done to one.

import { html, useState } from "../vendor/htm-preact.js";
import { ask } from "../api.js";
import { Act, Captions, Empty, Figure, Keypad, Message, clock, seconds, usePolled } from "../parts.js";
import { LiveView } from "../view.js";

export function CallsView({ events, chosen, choose }) {
  const [calls, error, refresh] = usePolled("/v1/calls", 2000);
  const live = (calls ?? []).filter((call) => !call.ended_at && !call.not_shown);
  const call = live.find((one) => one.call_id === chosen) ?? null;
  return html`<section aria-label="Live calls">
    <h1>Live calls <span class="count">${live.length}</span></h1>
    ${error && html`<${Message}>${error.message}<//>`}
    ${!live.length &&
    !error &&
    html`<${Empty} title="Nobody is on the phone">Press Call on the first page, or dial a name at this machine with a SIP video phone.<//>`}
    ${live.length > 0 &&
    html`<div class="split">
      <ul class="list">
        ${live.map(
          (one) => html`<li key=${one.call_id}>
            <button type="button" class="item" aria-pressed=${one.call_id === chosen} onClick=${() => choose(one.call_id)}>
              <strong>${who(one)}</strong>
              <span>${one.avatar} · ${seconds(Date.now() / 1000 - one.answered_at)} · ${one.audio}${one.video ? ` · ${one.video}` : ""}</span>
            </button>
          </li>`,
        )}
      </ul>
      ${call ? html`<${Detail} key=${call.call_id} call=${call} events=${events.filter((event) => event.call_id === call.call_id)} refresh=${refresh} />` : html`<p class="hint">Choose a call.</p>`}
    </div>`}
  </section>`;
}

export const who = (call) => {
  const name = /^sips?:([^@;]+)/i.exec(call.caller)?.[1] ?? call.caller;
  return name.startsWith("console-") ? "This console" : decodeURIComponent(name);
};

const percent = (share) => (share == null ? null : (100 * share).toFixed(1));
const ms = (value) => (value == null ? null : Math.round(1000 * value));

function Detail({ call, events, refresh }) {
  const [error, setError] = useState(null);
  const [text, setText] = useState("");
  const [to, setTo] = useState("");
  const [seen, setSeen] = useState(false);
  const path = `/v1/calls/${call.call_id}`;
  const media = call.media ?? {};
  const video = media.video ?? {};
  const act = (work) => async () => {
    await work();
    refresh();
  };
  const say = (mode) => act(async () => {
    if (text.trim()) await ask(`${path}/say`, { method: "POST", json: { text, mode } });
    setText("");
  });
  return html`<article class="detail" aria-label=${`Call of ${who(call)}`}>
    <header><h2>${who(call)}</h2><p class="mono">${call.caller} from ${call.source || "?"}</p></header>
    ${error && html`<${Message}>${error.message}<//>`}
    <dl class="figures">
      <${Figure} label="Face" value=${call.avatar} />
      <${Figure} label="Since" value=${clock(call.answered_at)} />
      <${Figure} label="Voice" value=${call.audio} />
      <${Figure} label="Picture" value=${call.video ?? "none"} />
      <${Figure} label="Bitrate" value=${media.video_bitrate ? Math.round(media.video_bitrate / 1000) : null} unit="kbit/s" />
      <${Figure} label="Lost" value=${percent(video.peer_fraction_lost ?? media.audio?.peer_fraction_lost)} unit="%" />
      <${Figure} label="Round trip" value=${ms(video.round_trip ?? media.audio?.round_trip)} unit="ms" />
      <${Figure} label="Frames late" value=${media.frames_late} />
    </dl>
    ${call.video && (seen ? html`<${LiveView} id=${call.call_id} />` : html`<button type="button" onClick=${() => setSeen(true)}>See what the caller sees</button>`)}
    <form class="row" onSubmit=${(event) => event.preventDefault()}>
      <input aria-label="Text to say" value=${text} onInput=${(event) => setText(event.target.value)} placeholder="Text to say" autocomplete="off" />
      <${Act} work=${say("queue")} failed=${setError}>Say<//>
      <${Act} work=${say("replace")} failed=${setError}>Say now<//>
      <${Act} work=${act(() => ask(`${path}/interrupt`, { method: "POST" }))} failed=${setError}>Interrupt<//>
    </form>
    <form class="row" onSubmit=${(event) => event.preventDefault()}>
      <input aria-label="Transfer to" value=${to} onInput=${(event) => setTo(event.target.value)} placeholder="sip:anna@example.com" autocomplete="off" />
      <${Act} disabled=${!to.trim()} work=${act(() => ask(`${path}/transfer`, { method: "POST", json: { to } }))} failed=${setError}>Transfer<//>
      <${Act} class="stop" work=${act(() => ask(path, { method: "DELETE" }))} failed=${setError}>Hang up<//>
    </form>
    <details><summary>Keys</summary><${Keypad} press=${(key) => ask(`${path}/dtmf`, { method: "POST", json: { digits: key } }).catch(setError)} /></details>
    <h3>What is said</h3>
    <${Captions} events=${events} />
    <${Turns} turns=${call.turns} />
    <h3>Events</h3>
    <${Events} events=${events} />
  </article>`;
}

function Turns({ turns }) {
  if (!turns?.length) return html`<p class="hint">Nothing yet.</p>`;
  return html`<ol class="lines">
    ${turns.slice(-12).map((turn) => html`<li key=${turn.turn_id}><span class=${`tag ${turn.state}`}>${turn.state}</span> ${turn.text ?? turn.kind} <small>${(turn.heard_ms / 1000).toFixed(1)} s heard</small> ${turn.reason}</li>`)}
  </ol>`;
}

export function Events({ events }) {
  if (!events.length) return html`<p class="hint">None since this page was opened.</p>`;
  return html`<ol class="lines mono">
    ${events.filter((event) => !["transcript", "reply"].includes(event.event)).slice(-30).map((event, index) => html`<li key=${index}><time>${clock(event.time)}</time> ${event.event} ${brief(event)}</li>`)}
  </ol>`;
}

const brief = ({ event: _kind, call_id: _id, time: _time, ...data }) =>
  Object.entries(data).filter(([, value]) => value !== "" && value != null).map(([name, value]) => `${name}=${typeof value === "object" ? JSON.stringify(value) : value}`).join(" ");
