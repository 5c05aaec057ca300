// Node's own HTTP/2 client: what it learns at the URL, as JSON.
// Usage: node node_http2.mjs URL [CA]
import { readFileSync } from "node:fs";
import http2 from "node:http2";

const [url, ca] = process.argv.slice(2);
const session = http2.connect(url, ca ? { ca: readFileSync(ca) } : {});
session.on("error", (error) => { throw error; });
session.on("goaway", (code) => { if (code) throw new Error(`GOAWAY ${code}`); });

function request(headers, content) {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers, { endStream: content === undefined });
    const answer = { body: "" };
    stream.on("response", (fields) => { answer.status = fields[":status"]; });
    stream.setEncoding("utf8");
    stream.on("data", (chunk) => { answer.body += chunk; });
    stream.on("end", () => resolve(answer));
    stream.on("error", reject);
    if (content !== undefined) stream.end(content);
  });
}

// One unmasked-payload text frame "hi" with a mask of zeros (RFC 6455, 5.2), echoed without a mask.
function websocketEcho() {
  return new Promise((resolve, reject) => {
    const stream = session.request(
      { ":method": "CONNECT", ":protocol": "websocket", ":path": "/echo", "sec-websocket-version": "13" },
      { endStream: false },
    );
    stream.on("error", reject);
    stream.on("response", () => stream.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69])));
    stream.once("data", (frame) => {
      stream.end(Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8])); // close, 1000
      resolve(frame.toString("hex"));
    });
  });
}

await new Promise((resolve) => session.once("remoteSettings", resolve));
const hello = await request({ ":path": "/" });
const uploads = await Promise.all(
  Array.from({ length: 50 }, () => request({ ":method": "POST", ":path": "/digest" }, Buffer.alloc(200_000))),
);
const frame = await websocketEcho();
const pinged = await new Promise((resolve, reject) => session.ping((error) => (error ? reject(error) : resolve(true))));
await new Promise((resolve) => session.close(resolve));
console.log(JSON.stringify({ hello, uploads, frame, pinged }));
