// Faces: drop a photo, see why it is refused, see it talk, delete it.

import { html, useRef, useState } from "../vendor/htm-preact.js";
import { ask } from "../api.js";
import { Act, Message, Portrait, usePolled } from "../parts.js";

const named = (file) => file.name.replace(/\.[^.]*$/, "").toLowerCase().replace(/[^a-z0-9_-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40) || "face";

export function AvatarsView({ callFace }) {
  const [avatars, error, refresh] = usePolled("/v1/avatars", 10_000);
  const [over, setOver] = useState(false);
  const [busy, setBusy] = useState("");
  const [problem, setProblem] = useState(null);
  const [told, tell] = useState("");
  const [version, setVersion] = useState(0);
  const picker = useRef(null);

  const take = async (file) => {
    if (!file) return;
    const name = named(file);
    setProblem(null);
    tell("");
    setBusy(name);
    try {
      await ask(`/v1/avatars/${encodeURIComponent(name)}`, { method: "PUT", body: file, type: file.type || "application/octet-stream" });
      tell(`${name} is ready: call it, or dial that name with a phone.`);
      setVersion((count) => count + 1);
      refresh();
    } catch (refusal) {
      setProblem(new Error(`${file.name}: ${refusal.message}`));
    }
    setBusy("");
  };
  const dropped = (event) => {
    event.preventDefault();
    setOver(false);
    take(event.dataTransfer.files[0]);
  };

  return html`<section aria-label="Faces">
    <h1>Faces</h1>
    <div class="drop" data-over=${over} onDragOver=${(event) => (event.preventDefault(), setOver(true))} onDragLeave=${() => setOver(false)} onDrop=${dropped}>
      <p><strong>Drop a photo here</strong>, one person, face to the camera.</p>
      <p class="hint">Only of people who have agreed to it: their face will speak.</p>
      <button type="button" onClick=${() => picker.current.click()} disabled=${Boolean(busy)}>Choose a photo</button>
      <input ref=${picker} id="photo" type="file" accept="image/*" class="hidden" tabindex="-1" aria-label="Photo" onChange=${(event) => take(event.target.files[0])} />
      ${busy && html`<p role="status">Looking at ${busy} …</p>`}
    </div>
    ${problem && html`<${Message}>${problem.message}<//>`}
    ${error && html`<${Message}>${error.message}<//>`}
    ${told && html`<${Message} kind="note">${told}<//>`}
    <ul class="faces">
      ${(avatars ?? []).map(
        (one) => html`<li key=${one.name}>
          <${Portrait} name=${one.name} version=${version} alt=${`Portrait of ${one.name}`} />
          <strong>${one.name}</strong>
          <div class="row">
            <button type="button" class="go" onClick=${() => callFace(one.name)}>Call it</button>
            ${!one.default && !one.built_in && html`<${Act} work=${async () => (await ask(`/v1/avatars/${encodeURIComponent(one.name)}`, { method: "DELETE" }), refresh())} failed=${setProblem} aria-label=${`Delete ${one.name}`}>Delete<//>`}
          </div>
        </li>`,
      )}
    </ul>
  </section>`;
}
