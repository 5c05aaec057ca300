// Node's own servers as an outside mark: node node.mjs PORT [CERTFILE KEYFILE]
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createSecureServer } from "node:http2";

const [port, certfile, keyfile] = process.argv.slice(2);

function answer(_request, response) {
  response.writeHead(200, { "content-type": "text/plain", "content-length": 13 });
  response.end("Hello, world!");
}

const server = certfile
  ? createSecureServer({ cert: readFileSync(certfile), key: readFileSync(keyfile), allowHTTP1: true }, answer)
  : createServer(answer);
server.listen(Number(port), "127.0.0.1");
