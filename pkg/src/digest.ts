/** SHA-256 of pieces, by the browser where it may, and of files that are longer than memory; git's names of files. */

/** SHA-256 of bytes in lower-case hexadecimal. Pages without a secure origin have no digests of the browser's. */
export async function sha256(bytes: Uint8Array): Promise<string> {
  const { subtle } = globalThis.crypto ?? {};
  if (subtle === undefined) return new Sha256().update(bytes).hex();
  return hex(new Uint8Array(await subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>)));
}

/**
 * What git calls a file: SHA-1 of its length and its bytes, in lower-case hexadecimal. Nothing where the browser
 * has no digests: this one is of use against damage only, which TLS sees as well.
 */
export async function gitName(bytes: Uint8Array): Promise<string | undefined> {
  const { subtle } = globalThis.crypto ?? {};
  if (subtle === undefined) return undefined;
  const head = new TextEncoder().encode(`blob ${bytes.length}\0`);
  const whole = new Uint8Array(head.length + bytes.length);
  whole.set(head);
  whole.set(bytes, head.length);
  return hex(new Uint8Array(await subtle.digest("SHA-1", whole)));
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The first `count` primes, whose roots are SHA-256's constants. */
function primes(count: number): number[] {
  const found: number[] = [];
  for (let n = 2; found.length < count; n++) if (found.every((prime) => n % prime !== 0)) found.push(n);
  return found;
}

/** The first 32 bits of the fraction. */
const fraction = (value: number): number => ((value - Math.floor(value)) * 2 ** 32) | 0;
const BLOCK = 64;

/** SHA-256 (FIPS 180-4) of bytes that come piece by piece, which browsers do not offer. */
export class Sha256 {
  readonly #constants = Int32Array.from(primes(64), (prime) => fraction(Math.cbrt(prime)));
  readonly #state = Int32Array.from(primes(8), (prime) => fraction(Math.sqrt(prime)));
  readonly #schedule = new Int32Array(64);
  readonly #block = new Uint8Array(BLOCK);
  #length = 0;

  /** Takes the next bytes. */
  update(bytes: Uint8Array): this {
    let at = 0;
    const begun = this.#length % BLOCK;
    this.#length += bytes.length;
    if (begun > 0) {
      at = Math.min(BLOCK - begun, bytes.length);
      this.#block.set(bytes.subarray(0, at), begun);
      if (begun + at < BLOCK) return this;
      this.#compress(this.#block, 0);
    }
    for (; at + BLOCK <= bytes.length; at += BLOCK) this.#compress(bytes, at);
    this.#block.set(bytes.subarray(at));
    return this;
  }

  /** The digest of all bytes, in lower-case hexadecimal; the end of this object's use. */
  hex(): string {
    const bits = this.#length * 8;
    const padding = new Uint8Array((this.#length % BLOCK < 56 ? 56 : 120) - (this.#length % BLOCK) + 8);
    padding[0] = 0x80;
    const view = new DataView(padding.buffer);
    view.setUint32(padding.length - 8, Math.floor(bits / 2 ** 32));
    view.setUint32(padding.length - 4, bits >>> 0);
    this.update(padding);
    const digest = new DataView(new ArrayBuffer(32));
    this.#state.forEach((word, index) => digest.setInt32(index * 4, word));
    return hex(new Uint8Array(digest.buffer));
  }

  #compress(bytes: Uint8Array, at: number): void {
    const w = this.#schedule;
    const view = new DataView(bytes.buffer, bytes.byteOffset + at, BLOCK);
    for (let i = 0; i < 16; i++) w[i] = view.getInt32(i * 4);
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15]!;
      const y = w[i - 2]!;
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16]! + s0 + w[i - 7]! + s1) | 0;
    }
    const constants = this.#constants;
    const state = this.#state;
    let [a, b, c, d, e, f, g, h] = state as unknown as [number, number, number, number, number, number, number, number];
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + constants[i]! + w[i]!) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b;
      b = a;
      a = (t1 + t2) | 0;
    }
    for (const [index, word] of [a, b, c, d, e, f, g, h].entries()) state[index] = (state[index]! + word) | 0;
  }
}
