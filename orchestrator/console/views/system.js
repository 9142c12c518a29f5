// Workers, inference servers, voices, and what is missing.

import { html } from "../vendor/htm-preact.js";
import { Figure, Message, when } from "../parts.js";

export function SystemView({ status, error }) {
  if (error) return html`<section aria-label="System"><h1>System</h1><${Message}>${error.message}<//></section>`;
  if (!status) return html`<section aria-label="System"><h1>System</h1><p class="hint" role="status">Asking …</p></section>`;
  return html`<section aria-label="System">
    <h1>System</h1>
    ${status.missing.map((one) => html`<${Message} key=${one} kind=${status.takes_calls ? "note" : "error"}>${one}<//>`)}
    ${!status.missing.length && html`<${Message} kind="good">Calls are taken, and get a talking face.<//>`}
    <dl class="figures">
      <${Figure} label="Calls" value=${status.calls} />
      <${Figure} label="Default face" value=${status.avatar.state} />
      ${Object.entries(status.versions).map(([name, version]) => html`<${Figure} key=${name} label=${name} value=${version} />`)}
    </dl>
    <h2>Inference servers</h2>
    <${Table} head=${["Address", "State", "Engine", "Speaking slots free", "Conversations", "Why"]}
      rows=${status.servers.map((one) => [one.address, one.state, [one.engine, one.version].filter(Boolean).join(" "), one.speaking_slots == null ? "–" : `${one.speaking_slots_free} of ${one.speaking_slots}`, one.sessions ?? "–", one.reason])} />
    <h2>Media workers</h2>
    <${Table} head=${["Process", "Room", "Calls", "Why not"]} rows=${status.workers.map((one) => [one.pid ?? "–", one.has_room ? "yes" : "no", one.calls, one.reason])} />
    <h2>SIP</h2>
    <${Table} head=${["Transport", "Listens on"]} rows=${Object.entries(status.sip).filter(([, where]) => where.length).map(([name, where]) => [name, where.join(", ")])} />
    <h2>Voices</h2>
    <${Table} head=${Object.keys(status.voices[0] ?? { name: "" })} rows=${status.voices.map((one) => Object.values(one).map(String))} />
    ${status.failures.length > 0 &&
    html`<h2>What went wrong</h2><${Table} head=${Object.keys(status.failures[0])} rows=${status.failures.map((one) => Object.entries(one).map(([name, value]) => (name.endsWith("at") ? when(value) : String(value))))} />`}
  </section>`;
}

function Table({ head, rows }) {
  if (!rows.length) return html`<p class="hint">None.</p>`;
  return html`<div class="scroll" tabindex="0"><table>
    <thead><tr>${head.map((name) => html`<th key=${name} scope="col">${name.replaceAll("_", " ")}</th>`)}</tr></thead>
    <tbody>${rows.map((row, index) => html`<tr key=${index}>${row.map((cell, at) => html`<td key=${at}>${cell}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}
