/**
 * Serves several folders under one origin, isolated as `SharedArrayBuffer` and fine clocks demand.
 */

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};

/** `mounts` maps the start of an address, as `/models/`, to a folder. Resolves to `{url, close}`. */
export async function serve(mounts) {
  const server = createServer((request, response) => answer(mounts, request, response).catch(() => response.destroy()));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${server.address().port}/`, close };
}

async function answer(mounts, request, response) {
  const address = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
  const mount = Object.keys(mounts).find((start) => address.startsWith(start));
  // `normalize` with a root in front cannot climb out of the folder.
  const file = mount && path.join(mounts[mount], path.normalize(`/${address.slice(mount.length)}`));
  const found = file && (await stat(file).catch(() => null));
  if (!found?.isFile()) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, {
    "Content-Type": TYPES[path.extname(file)] ?? "application/octet-stream",
    "Content-Length": found.size,
    "Cache-Control": "no-store",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
  });
  createReadStream(file).pipe(response);
}
