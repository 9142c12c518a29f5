// Calls that have ended, with the SIP messages of those that were traced.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { ask } from "../api.js";
import { Act, Empty, Figure, Message, seconds, usePolled, when } from "../parts.js";
import { who } from "./calls.js";

export function RecordsView() {
  const [records, error] = usePolled("/v1/records?limit=200", 5000);
  const [chosen, choose] = useState("");
  const [told, tell] = useState(null);
  const trace = async () => {
    await ask("/v1/traces", { method: "PUT", json: { calls: 20 } });
    tell("The SIP messages of the next 20 calls are kept.");
  };
  const record = (records ?? []).find((one) => one.call_id === chosen);
  return html`<section aria-label="Records">
    <h1>Records</h1>
    <div class="row"><${Act} work=${trace} failed=${(problem) => problem && tell(problem.message)}>Keep the SIP messages of the next calls<//></div>
    ${told && html`<${Message} kind="note">${told}<//>`}
    ${error && html`<${Message}>${error.message}<//>`}
    ${records && !records.length && html`<${Empty} title="No call has ended yet">Every call leaves one line here, with what its media were like and why it ended.<//>`}
    ${records?.length > 0 &&
    html`<div class="split">
      <ul class="list">
        ${records.filter((one) => !one.not_shown).map(
          (one) => html`<li key=${one.call_id}>
            <button type="button" class="item" aria-pressed=${one.call_id === chosen} onClick=${() => choose(one.call_id)}>
              <strong>${who(one)}</strong><span>${when(one.ended_at)} · ${seconds(one.seconds)} · ${one.cause}</span>
            </button>
          </li>`,
        )}
      </ul>
      ${record ? html`<${Detail} key=${record.call_id} record=${record} />` : html`<p class="hint">Choose a call.</p>`}
    </div>`}
  </section>`;
}

function Detail({ record }) {
  const [trace, setTrace] = useState("");
  const [said, setSaid] = useState(null);
  const [error, setError] = useState(null);
  const stream = (name, one) => one && html`<h3>${name}</h3><dl class="figures">${Object.entries(one).filter(([, value]) => value).map(([key, value]) => html`<${Figure} key=${key} label=${key.replaceAll("_", " ")} value=${typeof value === "number" ? +value.toFixed(3) : String(value)} />`)}</dl>`;
  return html`<article class="detail" aria-label=${`Record of ${who(record)}`}>
    <header><h2>${who(record)}</h2><p class="mono">${record.caller} → ${record.dialled || "?"} from ${record.source || "?"}</p></header>
    <dl class="figures">
      <${Figure} label="Began" value=${when(record.started_at)} />
      <${Figure} label="Lasted" value=${seconds(record.seconds)} />
      <${Figure} label="Ended" value=${record.cause} />
      <${Figure} label="By" value=${record.ended_by} />
      <${Figure} label="SIP" value=${[record.sip_cause, record.sip_status || ""].join(" ")} />
      <${Figure} label="Face" value=${record.avatar} />
      <${Figure} label="Voice" value=${record.audio} />
      <${Figure} label="Picture" value=${record.video ?? "none"} />
      <${Figure} label="Encrypted" value=${record.srtp ? "yes" : "no"} />
    </dl>
    ${record.reason && html`<p>${record.reason}</p>`}
    ${stream("Voice", record.media?.audio)} ${stream("Picture", record.media?.video)}
    <${Recordings} call=${record.call_id} />
    <h3>What was said</h3>
    ${said?.length === 0 ? html`<p class="hint">Nothing.</p>` : said ? html`<ol class="lines">${said.map((one, index) => html`<li key=${index}><strong>${one.speaker ?? one.kind ?? ""}</strong> ${one.text ?? ""}</li>`)}</ol>` : html`<${Act} work=${async () => setSaid((await ask(`/v1/calls/${record.call_id}/transcript`)).entries)} failed=${setError}>Show<//>`}
    <h3>SIP messages</h3>
    ${error && html`<${Message} kind="note">${error.message}<//>`}
    ${trace ? html`<${Ladder} messages=${ladder(trace)} />` : html`<${Act} work=${async () => setTrace(await ask(`/v1/calls/${record.call_id}/trace`))} failed=${setError}>Show<//>`}
  </article>`;
}

/** What was recorded of a call; nothing where that is nothing, or this token may not listen. */
function Recordings({ call }) {
  const [parts, setParts] = useState([]);
  const [error, setError] = useState(null);
  useEffect(() => {
    ask(`/v1/recordings?call_id=${encodeURIComponent(call)}`).then((found) => setParts(found.reverse()), () => {});
  }, [call]);
  return parts.length > 0 && html`<h3>Recording</h3>
    ${error && html`<${Message} kind="note">${error.message}<//>`}
    ${parts.map((part) => html`<${Part} key=${part.recording_id} part=${part} failed=${setError} />`)}`;
}

/** One file, which wants a token and so is fetched before it is played. */
function Part({ part, failed }) {
  const [url, setUrl] = useState("");
  const [captions, setCaptions] = useState("");
  useEffect(() => () => [url, captions].forEach((one) => URL.revokeObjectURL(one)), [url, captions]);
  const name = `${part.recording_id}.mp4`;
  if (part.state === "recording") return html`<p class="hint">Part ${part.number} is being recorded.</p>`;
  if (!url) {
    const fetched = async () => {
      const said = await ask(`/v1/calls/${part.call_id}/transcript?format=vtt&zero=${part.began_at}`).catch(() => "");
      if (said) setCaptions(URL.createObjectURL(new Blob([said], { type: "text/vtt" })));
      setUrl(URL.createObjectURL(await ask(`/v1/recordings/${part.recording_id}/media`)));
    };
    return html`<div class="row"><${Act} work=${fetched} failed=${failed}>Fetch part ${part.number}<//><span class="hint">${seconds(part.seconds)} · ${(part.bytes / 1e6).toFixed(1)} MB${part.state === "cut" ? " · cut short" : ""}</span></div>`;
  }
  return html`<figure>
    <video class="recording" controls src=${url} aria-label=${`Recording, part ${part.number}`}>
      ${captions && html`<track kind="captions" label="What was said" src=${captions} default />`}
    </video>
    <figcaption><a href=${url} download=${name}>Save ${name}</a></figcaption>
  </figure>`;
}

/** The messages of a trace: when, which way, first line, and the whole of it. */
function ladder(trace) {
  return trace.split(/^--- /m).filter((part) => part.trim()).map((part) => {
    const [head, first = "", ...rest] = part.split("\n");
    const [time, direction, remote] = head.split(" ");
    return { time: new Date(time), direction, remote, first: first.trim(), whole: [first, ...rest].join("\n").trimEnd() };
  });
}

function Ladder({ messages }) {
  return html`<ol class="ladder" aria-label="SIP messages, in order">
    ${messages.map((message, index) => html`<li key=${index} class=${message.direction}>
      <details>
        <summary><time>${message.time.toLocaleTimeString()}</time> <span class="arrow">${message.direction === "in" ? "→ us" : "← us"}</span> <code>${message.first.replace(" SIP/2.0", "")}</code></summary>
        <pre class="trace" tabindex="0">${message.whole}</pre>
      </details>
    </li>`)}
  </ol>`;
}
