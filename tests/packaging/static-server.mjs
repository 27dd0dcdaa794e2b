/** A static file server on a free port of this machine, with the headers that a case asks for. */

import { createServer } from "node:http";
import { readFile, realpath, stat } from "node:fs/promises";
import { extname, join, sep } from "node:path";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".wasm": "application/wasm",
  ".png": "image/png",
  ".txt": "text/plain; charset=utf-8",
};

/** Serves `root`; `headers` go with every answer. */
export async function serve(root, { headers = {} } = {}) {
  const real = await realpath(root);
  const server = createServer(async (request, response) => {
    try {
      const { pathname } = new URL(request.url, "http://localhost");
      let path = await realpath(join(real, decodeURIComponent(pathname)));
      if ((await stat(path)).isDirectory()) path = join(path, "index.html");
      if (!path.startsWith(real + sep)) throw new Error("outside of the root");
      const body = await readFile(path);
      const type = TYPES[extname(path)] ?? "application/octet-stream";
      response.writeHead(200, { "Content-Type": type, "X-Content-Type-Options": "nosniff", ...headers }).end(body);
    } catch {
      response.writeHead(404, { "Content-Type": "text/plain", ...headers }).end("not found");
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://localhost:${server.address().port}/`, close: () => (server.closeAllConnections(), server.close()) };
}
