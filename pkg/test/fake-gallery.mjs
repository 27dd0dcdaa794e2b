/** Stand-ins for the tests of galleries: the vectors of the module, and an instance that embeds bytes. */

import { GalleryEngine } from "../dist/gallery-engine.js";
import { BlipError } from "../dist/protocol.js";

const encoder = new TextEncoder();
const WIDTH = 4;

/** A module whose records are plain floats and whose files are JSON. `log` records what was called. */
export function fakeModule(log = []) {
  class GalleryIndex {
    constructor(width, fingerprint) {
      Object.assign(this, { width, fingerprint, pictures: new Map(), isFree: false });
      log.push("new");
    }
    static fromBytes(bytes, fingerprint) {
      const file = JSON.parse(new TextDecoder().decode(bytes));
      if (file.fingerprint !== fingerprint) throw Object.assign(new Error("of another model"), { code: "bad-option" });
      const index = new GalleryIndex(WIDTH, fingerprint);
      for (const { hash, key, record } of file.entries) index.restore(hash, key, Uint8Array.from(record));
      return index;
    }
    size() {
      return this.pictures.size;
    }
    has(hash) {
      return this.pictures.has(hash);
    }
    add(hash, key, embedding) {
      return this.restore(hash, key, new Uint8Array(Float32Array.from(embedding).buffer));
    }
    record(hash) {
      return this.pictures.get(hash)?.record;
    }
    restore(hash, key, record) {
      if (this.isFree) throw new Error("used after it was freed");
      if (this.pictures.has(hash)) return false;
      this.pictures.set(hash, { hash, key, record });
      log.push(`restore ${key}`);
      return true;
    }
    remove(hash) {
      return this.pictures.delete(hash);
    }
    search(embedding, k) {
      const score = (record) => {
        return new Float32Array(record.slice().buffer).reduce((sum, x, index) => sum + x * embedding[index], 0);
      };
      const hits = [...this.pictures.values()].map(({ hash, key, record }) => ({ hash, key, score: score(record) }));
      return JSON.stringify(hits.sort((a, b) => b.score - a.score).slice(0, k));
    }
    entries() {
      return JSON.stringify([...this.pictures.values()].map(({ hash, key }) => ({ hash, key })));
    }
    toBytes() {
      const entries = [...this.pictures.values()].map((picture) => ({ ...picture, record: [...picture.record] }));
      return encoder.encode(JSON.stringify({ fingerprint: this.fingerprint, entries }));
    }
    free() {
      this.isFree = true;
    }
  }
  return { GalleryIndex };
}

/** A unit vector of `WIDTH` that depends on the text. */
export function vectorOf(text) {
  const values = [1, 2, 3, 4].map((salt) => Math.sin([...text].reduce((sum, c) => sum + c.codePointAt(0) * salt, salt)));
  const length = Math.hypot(...values);
  return Float32Array.from(values, (x) => x / length);
}

/** A picture whose contents are a text. */
export const picture = (text, name = `${text}.png`) => new File([text], name, { type: "image/png" });

/**
 * An instance of its own, as a tab has one. Images are texts: what begins with `bad` cannot be read. `log`
 * records what was embedded.
 */
export function fakeHost({ fingerprint = "model", module = fakeModule(), log = [] } = {}) {
  const engine = new GalleryEngine();
  const state = { module, loaded: { fingerprint, width: WIDTH } };
  const textOf = async (image) => new TextDecoder().decode(image instanceof Blob ? await image.arrayBuffer() : image);
  const host = {
    state,
    engine,
    log,
    async embedImages(images, signal) {
      signal?.throwIfAborted();
      const texts = await Promise.all(images.map(textOf));
      log.push(texts);
      const bad = texts.findIndex((text) => text.startsWith("bad"));
      if (bad >= 0) throw new BlipError("bad-image", `image ${bad} is no picture`, { image: bad });
      return texts.map(vectorOf);
    },
    async embedText(text, signal) {
      signal?.throwIfAborted();
      return vectorOf(text);
    },
    async matchScores(image, text) {
      const found = await textOf(image);
      if (found.startsWith("bad")) throw new BlipError("bad-image", "no picture");
      // The first letter decides, whatever the cosine is.
      return { logit: found.codePointAt(0) * 10 - text.length, probability: 0.5 };
    },
    async index(op, args, signal) {
      signal?.throwIfAborted();
      const lend = (work) => work({ loaded: () => JSON.stringify(state.loaded) }, state.module);
      const turns = engine.call(lend, op, structuredClone(args));
      for (;;) {
        const { done, value } = await turns.next();
        if (done) return structuredClone(value);
        await new Promise((resolve) => setTimeout(resolve));
        if (!signal?.aborted) continue;
        await turns.return();
        throw signal.reason;
      }
    },
  };
  return host;
}
