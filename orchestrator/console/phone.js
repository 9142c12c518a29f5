// The phone in the page: SIP over WebSocket for signalling, one bundled RTCPeerConnection for media.

import { Dialog, branch, header, parse, respond, tagOf, token, uriOf } from "./sip.js";

const SDP = ["Content-Type", "application/sdp"];
const KEEPALIVE_MS = 25_000;
const ANSWER_MS = 15_000;
const CONNECT_MS = 12_000;
const END_WORDS = {
  404: "nobody is known by that name here",
  408: "there was no answer in time",
  480: "nobody answered",
  486: "the line is busy",
  488: "sound and picture could not be agreed",
  503: "no more calls are taken now",
};

/** One WebSocket to the orchestrator, and the calls over it. */
export class Phone {
  constructor({ url, token: secret, iceServers = [] }) {
    this.url = url;
    this.secret = secret;
    this.iceServers = iceServers;
    this.calls = new Map();
    this.host = `${token(6)}.invalid`;
    this.from = `sip:console-${token(3)}@${this.host}`;
    this.opened = null;
    this.socket = null;
    // A tab that is closed hangs up: what is sent now still leaves.
    addEventListener("pagehide", () => this.calls.forEach((call) => call.hangUp()));
  }

  /** The open socket; raises an Error with one sentence. */
  connect() {
    const opened = (this.opened ??= new Promise((resolve, reject) => {
      const socket = new WebSocket(this.url, ["sip", `visavis.token.${this.secret}`]);
      let ping = 0;
      socket.onopen = () => {
        ping = setInterval(() => socket.send("\r\n\r\n"), KEEPALIVE_MS);
        if (this.opened === opened) this.socket = socket;
        resolve(socket);
      };
      socket.onclose = () => {
        clearInterval(ping);
        if (this.opened === opened) this.opened = this.socket = null;
        reject(new Error("the orchestrator does not take this browser's connection: is the token valid?"));
      };
      socket.onmessage = (event) => this.#received(String(event.data));
    }));
    return opened;
  }

  /** Another socket: one of a network that is gone looks open for minutes. */
  reconnect() {
    this.close();
    this.opened = this.socket = null;
    return this.connect();
  }

  async send(text) {
    (this.socket ?? (await this.connect())).send(text);
  }

  close() {
    this.opened?.then((socket) => socket.close(), () => {});
  }

  /** Call somebody here; `stream` has the tracks to send, `video` asks for a picture. */
  call(user, { stream = null, video = true } = {}) {
    const call = new Call(this, user, stream, video);
    this.calls.set(call.dialog.callId, call);
    call.start();
    return call;
  }

  #received(text) {
    if (!text.trim()) return;
    const message = parse(text);
    const call = this.calls.get(header(message, "call-id"));
    if (call) call.take(message);
    else if (message.method && message.method !== "ACK") {
      this.send(respond(message, 481, "Call Does Not Exist", { tag: token(6) }));
    }
  }
}

/**
 * One call. Tells its changes as events: "state" (calling, ringing, connecting, live, ended), "picture" when the first
 * picture could be there (`media` is the stream to show), "transfer" with a new call.
 */
export class Call extends EventTarget {
  constructor(phone, user, stream, video) {
    super();
    this.phone = phone;
    this.user = user;
    this.stream = stream;
    this.wantsVideo = video;
    this.state = "new";
    this.reason = "";
    this.id = "";
    this.began = performance.now();
    this.marks = {};
    this.media = new MediaStream();
    this.held = false;
    this.dialog = new Dialog({ target: `sip:${encodeURIComponent(user)}@${location.hostname || "localhost"}`, from: phone.from, host: phone.host });
    this.invite = null;
    this.timers = [];
  }

  get over() {
    return this.state === "ended";
  }

  mark(name) {
    this.marks[name] ??= Math.round(performance.now() - this.began);
  }

  async start() {
    this.#become("calling");
    try {
      this.peer = this.#makePeer();
      await this.peer.setLocalDescription();
      // The other end is ICE-lite: it needs no candidates of ours, so nothing waits until they are gathered.
      await this.#invite(this.peer.localDescription.sdp);
      this.#after(ANSWER_MS, () => this.state === "calling" && this.end("the orchestrator did not answer"));
    } catch (error) {
      this.end(error.message);
    }
  }

  /** Hang up, in whatever state it is. */
  hangUp() {
    if (this.over) return;
    if (this.state === "calling" && this.invite) {
      this.#send("CANCEL", { sequence: this.invite.sequence, via: this.invite.via });
    } else if (this.dialog.remoteTag) {
      this.#send("BYE");
    }
    setTimeout(() => this.end("")); // the BYE leaves before the transport closes
  }

  /** Press a key: by RFC 4733 where it was agreed, else by INFO. */
  press(digit) {
    const dtmf = this.peer?.getSenders().find((sender) => sender.dtmf?.canInsertDTMF)?.dtmf;
    if (dtmf) dtmf.insertDTMF(digit, 120);
    else this.#send("INFO", { headers: [["Content-Type", "application/dtmf-relay"]], body: `Signal=${digit}\r\nDuration=120\r\n` });
  }

  /** Put it on hold or take it back: a re-INVITE with other directions. */
  async hold(held) {
    this.held = held;
    for (const one of this.peer.getTransceivers()) {
      if (one.stopped) continue;
      one.wanted ??= one.direction;
      one.direction = held ? "inactive" : one.wanted;
    }
    await this.peer.setLocalDescription();
    await this.#invite(this.peer.localDescription.sdp);
    this.#tell("state");
  }

  mute(muted) {
    for (const track of this.stream?.getAudioTracks() ?? []) track.enabled = !muted;
  }

  take(message) {
    if (message.method) this.#asked(message);
    else this.#answered(message).catch((error) => this.end(error.message));
  }

  end(reason) {
    if (this.over) return;
    this.timers.forEach(clearTimeout);
    this.reason = reason;
    this.peer?.close();
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.#become("ended");
    setTimeout(() => this.phone.calls.delete(this.dialog.callId), 5000);
  }

  #makePeer() {
    const peer = new RTCPeerConnection({ iceServers: this.phone.iceServers, bundlePolicy: "max-bundle" });
    const [voice] = this.stream?.getAudioTracks() ?? [];
    const [camera] = this.stream?.getVideoTracks() ?? [];
    peer.addTransceiver(voice ?? "audio", { direction: voice ? "sendrecv" : "recvonly", streams: this.stream ? [this.stream] : [] });
    if (this.wantsVideo) {
      peer.addTransceiver(camera ?? "video", { direction: camera ? "sendrecv" : "recvonly" });
    }
    peer.ontrack = (event) => {
      this.media.addTrack(event.track);
      this.#tell("picture");
    };
    peer.onconnectionstatechange = () => {
      if (peer.connectionState === "connected") {
        this.mark("connected");
        this.#become("live");
      } else if (peer.connectionState === "failed") {
        this.hangUp();
        this.end(NO_WAY);
      }
    };
    peer.oniceconnectionstatechange = () => {
      if (peer.iceConnectionState === "disconnected") this.#restart();
    };
    return peer;
  }

  /** The network may have changed: find a way anew (ICE restart), in the same call. */
  #restart() {
    this.#after(500, async () => {
      if (this.over || this.peer.iceConnectionState !== "disconnected") return;
      try {
        await this.phone.reconnect();
        this.peer.restartIce();
        await this.peer.setLocalDescription();
        await this.#invite(this.peer.localDescription.sdp);
      } catch (error) {
        this.end(error.message);
      }
    });
  }

  async #invite(body) {
    this.invite = { via: branch(), sequence: ++this.dialog.sequence };
    this.mark("invited");
    await this.#send("INVITE", { ...this.invite, headers: [SDP], body });
  }

  async #answered(response) {
    const [number, method] = header(response, "cseq").split(" ");
    if (method !== "INVITE" || !this.invite || Number(number) !== this.invite.sequence) return;
    if (response.status < 200) {
      if (response.status > 100) this.#become("ringing");
      return;
    }
    if (response.status >= 300) {
      // The ACK of a refusal belongs to the INVITE's own transaction (RFC 3261 section 17.1.1.3).
      const tag = this.dialog.remoteTag;
      this.dialog.remoteTag = tagOf(header(response, "to"));
      this.#send("ACK", { ...this.invite });
      this.dialog.remoteTag = tag;
      const said = /"([^"]*)"/.exec(header(response, "warning"))?.[1];
      if (!tag) this.end(said || END_WORDS[response.status] || `the call was refused: ${response.reason}`);
      return;
    }
    this.dialog.learn(response);
    this.#send("ACK", { sequence: this.invite.sequence });
    if (this.over) {
      this.#send("BYE");
      return;
    }
    this.mark("answered");
    if (this.peer.signalingState === "have-local-offer") {
      await this.peer.setRemoteDescription({ type: "answer", sdp: response.body });
    }
    if (this.state !== "live") {
      this.#become("connecting");
      this.#after(CONNECT_MS, () => this.state === "connecting" && (this.hangUp(), this.end(NO_WAY)));
    }
  }

  #asked(request) {
    const answer = (status, reason, more) => this.phone.send(respond(request, status, reason, more));
    if (request.method === "BYE") {
      answer(200, "OK");
      this.end(/text="([^"]*)"/.exec(header(request, "reason"))?.[1] || "the other end hung up");
    } else if (request.method === "REFER") {
      this.#transfer(request, answer);
    } else if (request.method === "INVITE") {
      answer(488, "Not Acceptable Here");
    } else if (request.method !== "ACK") {
      answer(200, "OK");
    }
  }

  /** Sent to somebody else: call them, and tell how it went (RFC 3515). */
  #transfer(request, answer) {
    const target = uriOf(header(request, "refer-to"));
    const user = /^sips?:([^@;?]+)@/i.exec(target)?.[1];
    if (!user) {
      answer(400, "Bad Refer-To");
      return;
    }
    answer(202, "Accepted");
    const next = this.phone.call(decodeURIComponent(user), { stream: this.stream?.clone() ?? null, video: this.wantsVideo });
    let told = false;
    next.addEventListener("state", () => {
      if (told || !["connecting", "live", "ended"].includes(next.state)) return;
      told = true;
      const line = next.over ? "SIP/2.0 480 Temporarily Unavailable" : "SIP/2.0 200 OK";
      this.#send("NOTIFY", {
        headers: [["Event", "refer"], ["Subscription-State", "terminated;reason=noresource"], ["Content-Type", "message/sipfrag"]],
        body: `${line}\r\n`,
      });
    });
    this.dispatchEvent(new CustomEvent("transfer", { detail: next }));
  }

  #send(method, options) {
    return this.phone.send(this.dialog.request(method, options));
  }

  #after(milliseconds, work) {
    this.timers.push(setTimeout(work, milliseconds));
  }

  #become(state) {
    if (this.over || this.state === state || (this.state === "live" && state !== "ended")) return;
    this.state = state;
    this.#tell("state");
  }

  #tell(name) {
    this.dispatchEvent(new Event(name));
  }
}

export const NO_WAY =
  "media do not get through between this browser and the orchestrator, neither by UDP nor by TCP: see docs/browser.md";
