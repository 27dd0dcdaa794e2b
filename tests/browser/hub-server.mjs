/**
 * Servers like those of a model hub, with the faults of a network.
 *
 * The hub's own origin answers the API and small files, and redirects large ones to another origin, as
 * the real one does to its content delivery network. Both allow other origins, and neither answers a
 * preflight: a request that needs one fails here as it might there. `/models/…` are folders with a
 * `blip.json`, from the second origin.
 */

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** A commit that follows from what is in it. */
const commitOf = (files) =>
  createHash("sha1").update(Object.entries(files).map(([name, bytes]) => `${name} ${sha256(bytes)}`).join("\n")).digest("hex");

/** What the hub keeps outside of git, and redirects to. */
const isLarge = (name) => /\.(safetensors|bin|pth|h5)$/.test(name);

/** Bytes that are written at a time: a connection is cut or slowed between two of them. */
const PIECE = 1 << 16;

/** Headers of the hub that a page can read. */
const OPEN = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": "X-Repo-Commit, ETag, Link, Accept-Ranges, Content-Range, X-Linked-Size, X-Linked-ETag",
};

/** The hub and its content delivery network on this machine. */
export class HubServer {
  /** Every request: method, path, range, status, and the bytes that were written. */
  log = [];
  #faults = [];
  #repositories = new Map();
  #folders = new Map();
  #servers = [];

  /** Opens both origins. */
  static async start() {
    const server = new HubServer();
    server.url = await server.#listen((request) => server.#hub(request));
    server.cdn = await server.#listen((request) => server.#files(request));
    return server;
  }

  /** Adds a repository; `digest` is what the hub says of its weights, if not the truth. */
  repository(name, files, { digest } = {}) {
    this.#repositories.set(name, { files, commit: commitOf(files), digest });
  }

  /** Adds a folder with a manifest. */
  folder(name, files) {
    this.#folders.set(name, files);
  }

  /**
   * The next `times` requests whose path matches meet a fault: `status` with `headers` instead of an
   * answer, `down` nothing at all, `cut` an end after so many bytes, `pause` milliseconds between pieces,
   * `whole` a server without ranges, `damage` one wrong byte in the middle.
   */
  fault(pattern, fault, times = Infinity) {
    this.#faults.push({ pattern: new RegExp(pattern), fault, times });
  }

  /** The end of all faults, and of the log so far. */
  reset() {
    this.#faults = [];
    this.log.length = 0;
  }

  close() {
    for (const server of this.#servers) {
      server.closeAllConnections();
      server.close();
    }
  }

  #listen(answer) {
    const server = createServer((request, response) => {
      const entry = { method: request.method, path: request.url, range: request.headers.range, status: 0, bytes: 0 };
      this.log.push(entry);
      this.#reply(request, response, entry, answer).catch(() => response.destroy());
    });
    this.#servers.push(server);
    return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(`http://localhost:${server.address().port}`)));
  }

  async #reply(request, response, entry, answer) {
    const fault = this.#take(request.url);
    if (fault.down) return response.destroy();
    const refuse = (status, headers = {}) => {
      response.writeHead(entry.status = status, { ...OPEN, ...headers });
      response.end(`status ${status}`);
    };
    if (fault.status) return refuse(fault.status, fault.headers);
    // A preflight: neither origin allows what it would ask for.
    if (request.method !== "GET" && request.method !== "HEAD") return refuse(405);
    const found = answer(decodeURIComponent(new URL(request.url, this.url).pathname));
    if (found === undefined) return refuse(404);
    if (found.location) return refuse(302, { location: found.location });
    let bytes = found.bytes;
    if (fault.damage) {
      bytes = Buffer.from(bytes);
      bytes[bytes.length >> 1] ^= 1;
    }
    const [, first, last] = (!fault.whole && /^bytes=(\d+)-(\d*)$/.exec(entry.range ?? "")) || [];
    const [start, end] = first === undefined ? [0, bytes.length] : [Number(first), last === "" ? bytes.length : Math.min(Number(last) + 1, bytes.length)];
    if (start >= bytes.length) return refuse(416, { "content-range": `bytes */${bytes.length}` });
    entry.status = first === undefined ? 200 : 206;
    response.writeHead(entry.status, {
      ...OPEN,
      "content-type": found.type ?? "application/octet-stream",
      "content-length": end - start,
      "accept-ranges": fault.whole ? "none" : "bytes",
      "cache-control": "no-cache",
      etag: `"${sha256(found.bytes)}"`,
      ...(first === undefined ? {} : { "content-range": `bytes ${start}-${end - 1}/${bytes.length}` }),
    });
    await this.#write(response, bytes.subarray(start, end), fault, entry);
  }

  async #write(response, bytes, { cut = Infinity, pause }, entry) {
    const gone = once(response, "close");
    for (let at = 0; at < bytes.length; at += PIECE) {
      if (at >= cut) {
        // What was written has left the machine by then.
        await sleep(100);
        return response.destroy();
      }
      const piece = bytes.subarray(at, at + PIECE);
      if (!response.write(piece)) await Promise.race([once(response, "drain"), gone]);
      if (response.destroyed) return;
      entry.bytes += piece.length;
      if (pause) await sleep(pause);
    }
    response.end();
  }

  #take(path) {
    const found = this.#faults.find(({ pattern, times }) => times > 0 && pattern.test(path));
    if (found === undefined) return {};
    found.times--;
    return found.fault;
  }

  /** The origin that pages know. */
  #hub(path) {
    const [, name, revision] = /^\/api\/models\/([^/]+\/[^/]+)\/revision\/(.+)$/.exec(path) ?? [];
    const asked = this.#at(name, revision);
    if (asked !== undefined) return { type: "application/json", bytes: Buffer.from(JSON.stringify(describe(name, asked))) };
    const [, repository, commit, file] = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(path) ?? [];
    const bytes = this.#at(repository, commit)?.files[file];
    if (bytes === undefined) return undefined;
    return isLarge(file) ? { location: `${this.cdn}/cdn/${repository}/${file}?signature=0` } : { bytes };
  }

  #at(name, revision) {
    const repository = this.#repositories.get(name);
    return revision === "main" || revision === repository?.commit ? repository : undefined;
  }

  /** The origin of large files, and of folders. */
  #files(path) {
    const [, kind, name, file] = /^\/(cdn|models)\/((?:[^/]+\/)*[^/]+)\/([^/]+)$/.exec(path) ?? [];
    const bytes = kind === "cdn" ? this.#repositories.get(name)?.files[file] : this.#folders.get(name)?.[file];
    return bytes && { bytes };
  }
}

/** What the API says of a repository, as `?blobs=true` has it. */
function describe(id, { files, commit, digest }) {
  const siblings = Object.entries(files).map(([rfilename, bytes]) => ({
    rfilename,
    size: bytes.length,
    blobId: createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex"),
    ...(isLarge(rfilename) ? { lfs: { sha256: digest ?? sha256(bytes), size: bytes.length, pointerSize: 134 } } : {}),
  }));
  return { _id: "0", id, modelId: id, sha: commit, private: false, gated: false, cardData: { license: "bsd-3-clause" }, siblings };
}
