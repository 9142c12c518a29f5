// The phone: one button, the picture, and in one sentence why it does not work.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { ask } from "../api.js";
import { Captions, Figure, Keypad, Message, Portrait, seconds } from "../parts.js";

const WORDS = {
  new: "",
  calling: "Calling …",
  ringing: "Ringing …",
  connecting: "Connecting sound and picture …",
  live: "",
  ended: "The call has ended.",
};

/** What keeps this browser from a call, in one sentence; "" where nothing does. */
function obstacle(status, error) {
  // A token that may only call sees no status; that is no obstacle.
  if (error && error.status !== 403) return error.message;
  if (!window.RTCPeerConnection) return "This browser has no WebRTC: use Chrome, Edge, Safari or Firefox.";
  if (status && !status.takes_calls) return `No calls are taken now: ${status.missing[0] ?? "the orchestrator is starting"}.`;
  return "";
}

/** What is worth knowing before a call that works all the same. */
function remark(status, canHear) {
  if (!canHear) {
    return "Over plain http from another machine a browser gives no microphone: you will see and hear, and not be heard. Use https, or ssh -L.";
  }
  if (status && !status.talking_face) return `The lips will be still: ${status.missing[0] ?? "the face is not ready"}.`;
  return "";
}

export function CallView({ phone, call, setCall, status, statusError, events, wanted, took }) {
  const [avatars, setAvatars] = useState([]);
  const [user, setUser] = useState("default");
  const [microphone, setMicrophone] = useState(true);
  const [camera, setCamera] = useState(false);
  const [error, setError] = useState("");
  const canHear = Boolean(navigator.mediaDevices?.getUserMedia);
  const live = call && !call.over;
  const stopped = obstacle(status, statusError);

  useEffect(() => {
    ask("/v1/avatars").then(setAvatars, () => {});
  }, []);

  // "Call it" on another page.
  useEffect(() => {
    if (!wanted) return;
    setUser(wanted);
    took();
    if (!live && !stopped) start(wanted);
  }, [wanted]);

  const start = async (face) => {
    setError("");
    let stream = null;
    if (canHear && (microphone || camera)) {
      try {
        const voice = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
        stream = await navigator.mediaDevices.getUserMedia({ audio: microphone && voice, video: camera });
      } catch (refusal) {
        setError(
          refusal.name === "NotAllowedError"
            ? "The microphone is not allowed: allow it in the address bar, or call without it."
            : `The microphone cannot be used (${refusal.name}): choose another in the system's settings, or call without it.`,
        );
        return;
      }
    }
    setCall(phone.call(face, { stream }));
  };

  return html`<section class="call" aria-label="Call">
    <div class="stage" data-state=${call?.state ?? "new"}>
      ${live ? html`<${Picture} call=${call} />` : html`<${Portrait} name=${user} alt=${`The face of ${user}`} />`}
      <div class="over">
        ${live
          ? html`<${LiveBar} call=${call} />`
          : html`<button type="button" class="big go" onClick=${() => start(user)} disabled=${Boolean(stopped)}>
              <span aria-hidden="true">●</span> Call
            </button>`}
      </div>
    </div>
    <div class="beside">
      <p class="saying" role="status" aria-live="polite">${call ? WORDS[call.state] : ""}</p>
      ${call?.over && call.reason && html`<${Message} kind=${/hung up/.test(call.reason) ? "note" : "error"}>${sentence(call.reason)}<//>`}
      ${error && html`<${Message}>${error}<//>`}
      ${!live && stopped && html`<${Message}>${stopped}<//>`}
      ${!live && !stopped && remark(status, canHear) && html`<${Message} kind="note">${remark(status, canHear)}<//>`}
      ${!live &&
      html`<fieldset class="choices">
        <legend class="hidden">Before the call</legend>
        <label>Face
          <select value=${user} onChange=${(event) => setUser(event.target.value)}>
            ${(avatars.length ? avatars : [{ name: "default" }]).map(({ name }) => html`<option key=${name} value=${name}>${name}</option>`)}
          </select>
        </label>
        <label class="switch"><input type="checkbox" checked=${microphone && canHear} disabled=${!canHear} onChange=${(event) => setMicrophone(event.target.checked)} /> Microphone</label>
        <label class="switch"><input type="checkbox" checked=${camera && canHear} disabled=${!canHear} onChange=${(event) => setCamera(event.target.checked)} /> Camera <small>(the face does not look at it)</small></label>
      </fieldset>`}
      ${live && html`<${Say} call=${call} />`}
      ${call && html`<${Captions} events=${own(events, call)} />`}
      ${call && html`<${Numbers} call=${call} />`}
    </div>
  </section>`;
}

/** The events of the call that this page has made, which the event of its answer names. */
function own(events, call) {
  call.id ||= events.findLast((event) => event.event === "answered" && event.caller === call.dialog.from)?.call_id ?? "";
  return events.filter((event) => event.call_id === call.id);
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

function Picture({ call }) {
  const video = useRef(null);
  useEffect(() => {
    const element = video.current;
    const show = () => {
      element.srcObject = call.media;
      element.play().catch(() => {});
    };
    call.addEventListener("picture", show);
    show();
    element.requestVideoFrameCallback?.(() => {
      call.mark("picture");
      call.dispatchEvent(new Event("state"));
    });
    return () => call.removeEventListener("picture", show);
  }, [call]);
  return html`<video ref=${video} autoplay playsinline aria-label="The face you are talking to"></video>`;
}

function LiveBar({ call }) {
  const [muted, setMuted] = useState(false);
  const [keys, setKeys] = useState(false);
  const mute = () => {
    call.mute(!muted);
    setMuted(!muted);
  };
  return html`<div class="bar" role="toolbar" aria-label="Call">
    ${call.stream && html`<button type="button" aria-pressed=${muted} onClick=${mute}>${muted ? "Unmute" : "Mute"}</button>`}
    <button type="button" aria-pressed=${call.held} disabled=${call.state !== "live"} onClick=${() => call.hold(!call.held)}>${call.held ? "Resume" : "Hold"}</button>
    <button type="button" aria-expanded=${keys} onClick=${() => setKeys(!keys)}>Keys</button>
    <button type="button" class="stop" onClick=${() => call.hangUp()}>Hang up</button>
    ${keys && html`<${Keypad} press=${(key) => call.press(key)} />`}
  </div>`;
}

/** What the face is to say: the API's, for the call of this page. */
function Say({ call }) {
  const [text, setText] = useState("");
  const [error, setError] = useState("");
  const say = async (event) => {
    event.preventDefault();
    if (!text.trim()) return;
    try {
      const id = await idOf(call);
      await ask(`/v1/calls/${id}/say`, { method: "POST", json: { text } });
      setText("");
      setError("");
    } catch (problem) {
      setError(problem.message);
    }
  };
  const quiet = async () => {
    try {
      await ask(`/v1/calls/${await idOf(call)}/interrupt`, { method: "POST" });
    } catch (problem) {
      setError(problem.message);
    }
  };
  return html`<form class="say" onSubmit=${say}>
    <label for="say">Let the face say</label>
    <div class="row">
      <input id="say" value=${text} onInput=${(event) => setText(event.target.value)} placeholder="Nice to meet you." autocomplete="off" />
      <button type="submit">Say</button>
      <button type="button" onClick=${quiet}>Interrupt</button>
    </div>
    ${error && html`<${Message}>${error}<//>`}
  </form>`;
}

/** The API's id of this page's call, which it knows by the address that the page calls from. */
async function idOf(call) {
  if (!call.id) {
    const calls = await ask("/v1/calls");
    const mine = calls.findLast((one) => !one.ended_at && one.caller === call.dialog.from);
    if (!mine) throw new Error("The call is not answered yet.");
    call.id = mine.call_id;
  }
  return call.id;
}

function Numbers({ call }) {
  const [figures, setFigures] = useState({});
  useEffect(() => {
    if (call.over) return undefined;
    let last = null;
    const timer = setInterval(async () => {
      const now = {};
      for (const report of (await call.peer?.getStats())?.values() ?? []) {
        if (report.type === "inbound-rtp") now[report.kind] = report;
        if (report.type === "candidate-pair" && report.nominated) now.pair = report;
        if (report.type === "local-candidate" && now.pair?.localCandidateId === report.id) now.local = report;
      }
      const bits = last?.video && now.video ? (8 * (now.video.bytesReceived - last.video.bytesReceived)) / ((now.video.timestamp - last.video.timestamp) / 1000) : null;
      setFigures({
        fps: now.video?.framesPerSecond,
        size: now.video?.frameWidth ? `${now.video.frameWidth}×${now.video.frameHeight}` : null,
        bitrate: bits === null ? null : Math.round(bits / 1000),
        lost: (now.video?.packetsLost ?? 0) + (now.audio?.packetsLost ?? 0),
        trip: now.pair?.currentRoundTripTime == null ? null : Math.round(1000 * now.pair.currentRoundTripTime),
        way: now.local?.protocol?.toUpperCase(),
      });
      last = now;
    }, 1000);
    return () => clearInterval(timer);
  }, [call, call.over]);
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => !call.over && tick((count) => count + 1), 1000);
    return () => clearInterval(timer);
  }, [call]);
  return html`<dl class="figures" aria-label="Figures of this call">
    <${Figure} label="First picture" value=${call.marks.picture} unit="ms" />
    <${Figure} label="Time" value=${call.marks.connected && !call.over ? seconds((performance.now() - call.began - call.marks.connected) / 1000) : null} />
    <${Figure} label="Picture" value=${figures.size && `${figures.size} @ ${figures.fps ?? "–"}`} />
    <${Figure} label="Bitrate" value=${figures.bitrate} unit="kbit/s" />
    <${Figure} label="Round trip" value=${figures.trip} unit="ms" />
    <${Figure} label="Lost packets" value=${figures.lost} />
    <${Figure} label="Way" value=${figures.way} />
  </dl>`;
}
