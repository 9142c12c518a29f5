// SIP messages over WebSocket (RFC 3261, RFC 7118), as far as one phone in a page needs them. No DOM, no media.

const CRLF = "\r\n";
const COMPACT = { v: "via", f: "from", t: "to", i: "call-id", m: "contact", l: "content-length", c: "content-type" };

export const token = (bytes = 8) =>
  Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export const branch = () => `z9hG4bK${token(10)}`;

/** A message as {method, uri} or {status, reason}, with headers (name in lower case: values) and a body. */
export function parse(text) {
  const end = text.indexOf(CRLF + CRLF);
  const head = (end < 0 ? text : text.slice(0, end)).replace(/\r\n[ \t]+/g, " ").split(CRLF);
  const message = { headers: new Map(), body: end < 0 ? "" : text.slice(end + 4) };
  const [first, second, ...rest] = head.shift().split(" ");
  if (first === "SIP/2.0") Object.assign(message, { status: Number(second), reason: rest.join(" ") });
  else Object.assign(message, { method: first, uri: second });
  for (const line of head) {
    const colon = line.indexOf(":");
    if (colon < 0) continue;
    const given = line.slice(0, colon).trim().toLowerCase();
    const name = COMPACT[given] ?? given;
    message.headers.set(name, [...(message.headers.get(name) ?? []), line.slice(colon + 1).trim()]);
  }
  return message;
}

export const header = (message, name) => (message.headers.get(name) ?? [""])[0];

export const tagOf = (value) => /;\s*tag=([^;\s]+)/i.exec(value)?.[1] ?? "";

export const uriOf = (value) => /<([^>]+)>/.exec(value)?.[1] ?? value.split(";")[0].trim();

/** A request or response as text; the length is counted here. */
export function write(first, headers, body = "") {
  const length = new TextEncoder().encode(body).length;
  const lines = [...headers, ["Content-Length", length]].map(([name, value]) => `${name}: ${value}`);
  return [first, ...lines, "", body].join(CRLF);
}

/** The response to a request, with what has to be repeated of it. */
export function respond(request, status, reason, { tag = "", headers = [], body = "" } = {}) {
  const same = [];
  for (const name of ["via", "from", "to", "call-id", "cseq", "record-route"]) {
    for (const value of request.headers.get(name) ?? []) {
      const tagged = name === "to" && tag && !tagOf(value) ? `${value};tag=${tag}` : value;
      same.push([name, tagged]);
    }
  }
  return write(`SIP/2.0 ${status} ${reason}`, [...same, ...headers], body);
}

/** One dialog of ours as the caller: who, with whom, and the next request in it. */
export class Dialog {
  constructor({ target, from, host }) {
    this.callId = token(12);
    this.localTag = token(6);
    this.remoteTag = "";
    this.target = target;
    this.to = target;
    this.route = [];
    this.sequence = 0;
    this.from = from;
    this.contact = `<${from};transport=ws>`;
    this.host = host;
  }

  /** Take what a response says of the other end. */
  learn(response) {
    this.remoteTag = tagOf(header(response, "to"));
    const contact = header(response, "contact");
    if (contact) this.target = uriOf(contact);
    this.route = [...(response.headers.get("record-route") ?? [])].reverse();
  }

  request(method, { headers = [], body = "", sequence = 0, via = branch() } = {}) {
    const number = sequence || ++this.sequence;
    const to = this.remoteTag ? `<${this.to}>;tag=${this.remoteTag}` : `<${this.to}>`;
    return write(
      `${method} ${this.target} SIP/2.0`,
      [
        ["Via", `SIP/2.0/WS ${this.host};branch=${via}`],
        ["Max-Forwards", 70],
        ...this.route.map((value) => ["Route", value]),
        ["From", `<${this.from}>;tag=${this.localTag}`],
        ["To", to],
        ["Call-ID", this.callId],
        ["CSeq", `${number} ${method}`],
        ["Contact", this.contact],
        ["User-Agent", "Visavis console"],
        ["Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, REFER, NOTIFY"],
        ...headers,
      ],
      body,
    );
  }
}
