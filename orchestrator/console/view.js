// The live view: coded pictures of a call over a WebSocket, decoded by WebCodecs, drawn on a canvas.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { token } from "./api.js";

/** "avc1.42E01F" out of the first parameter set of an Annex B picture. */
function codecOf(data) {
  for (let at = 0; at + 7 < data.length; at += 1) {
    if (data[at] === 0 && data[at + 1] === 0 && data[at + 2] === 1 && (data[at + 3] & 0x1f) === 7) {
      return `avc1.${[4, 5, 6].map((offset) => data[at + offset].toString(16).padStart(2, "0")).join("")}`;
    }
  }
  return null;
}

export function LiveView({ id }) {
  const canvas = useRef(null);
  const [state, setState] = useState("");
  useEffect(() => {
    if (!window.VideoDecoder) {
      setState(
        window.isSecureContext
          ? "This browser is too old for the live picture: it takes Chrome or Edge 94, Safari 16.4, Firefox 130, or later ones."
          : "Browsers show the live picture on pages of https and of localhost only: open this one by https or through ssh -L.",
      );
      return undefined;
    }
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/v1/calls/${id}/view`, ["visavis", `visavis.token.${token()}`]);
    socket.binaryType = "arraybuffer";
    let decoder = null;
    const began = performance.now();
    const draw = (frame) => {
      const element = canvas.current;
      if (element) {
        if (element.width !== frame.displayWidth) element.width = frame.displayWidth;
        if (element.height !== frame.displayHeight) element.height = frame.displayHeight;
        element.getContext("2d").drawImage(frame, 0, 0);
        element.dataset.first ||= String(Math.round(performance.now() - began));
        element.dataset.pictures = String(Number(element.dataset.pictures ?? 0) + 1);
      }
      frame.close();
    };
    socket.onmessage = ({ data }) => {
      const bytes = new Uint8Array(data);
      const key = bytes[0] === 1;
      const picture = bytes.subarray(5);
      if (!decoder) {
        const codec = key && codecOf(picture);
        if (!codec) return;
        decoder = new VideoDecoder({ output: draw, error: (error) => setState(`The picture cannot be shown: ${error.message}`) });
        decoder.configure({ codec, optimizeForLatency: true });
      }
      if (decoder.state !== "configured") return;
      const timestamp = Math.round((new DataView(data).getUint32(1) * 100) / 9);
      decoder.decode(new EncodedVideoChunk({ type: key ? "key" : "delta", timestamp, data: picture }));
    };
    return () => {
      socket.close();
      if (decoder && decoder.state !== "closed") decoder.close();
    };
  }, [id]);
  return state ? html`<p class="hint">${state}</p>` : html`<canvas class="live" ref=${canvas} role="img" aria-label="What the caller sees"></canvas>`;
}
