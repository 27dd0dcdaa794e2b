/**
 * The engine's end of the protocol: calls take turns, are cancelled in between, and survive the loss of
 * the device.
 *
 * A call is cut into turns of about one image. After each the next call has its turn, so that a long one
 * holds up the others for no longer than that.
 *
 * It runs in the worker, or in the page for `worker: false`; it knows neither.
 */

import { BATCH, type OnEvent, type StartModule } from "./engine.js";
import type { GalleryEngine } from "./gallery-engine.js";
import { Encoder, Picture } from "./pictures.js";
import { openModels } from "./plan.js";
import {
  BlipError,
  type FromEngine,
  type PictureInput,
  type TaskAnswer,
  type TaskRequest,
  type ToEngine,
  toBlipError,
} from "./protocol.js";
import { Runtime } from "./runtime.js";

type Message<Type> = Extract<ToEngine, { type: Type }>;
type CallMessage = Exclude<ToEngine, { type: "abort" | "release" }>;

/** Posts a message, and moves buffers with it. */
export type Post = (message: FromEngine, transfer?: Transferable[]) => void;

/** A call, which runs until it yields. */
interface Call {
  readonly id: number;
  readonly controller: AbortController;
  readonly turns: AsyncGenerator<void, Value, void>;
}

/** What a call resolves to, and the buffers that move with it. */
interface Value {
  readonly value: unknown;
  readonly transfer?: Transferable[];
}

/** Serves one engine. */
export class EngineHost {
  readonly #post: Post;
  readonly #startModule: StartModule;
  readonly #queue: Call[] = [];
  readonly #encoder = new Encoder();
  /** Pictures that the page has handles of. */
  readonly #pictures = new Map<number, Picture>();
  #nextPicture = 1;
  #runtime: Runtime | undefined;
  #gallery: GalleryEngine | undefined;
  /** The call whose turn it is. */
  #current: Call | undefined;
  #working: Promise<void> | undefined;
  #closed = false;

  constructor(post: Post, startModule: StartModule) {
    this.#post = post;
    this.#startModule = startModule;
  }

  /** Whether a call is waiting or running. */
  get busy(): boolean {
    return this.#current !== undefined || this.#queue.length > 0;
  }

  /** Takes a message of the page. Cancelling acts at once; calls wait for their turn. */
  receive(message: ToEngine): void {
    if (this.#closed) return;
    if (message.type === "abort") return this.#abort(message.id);
    if (message.type === "release") return this.#release(message.picture);
    const controller = new AbortController();
    this.#queue.push({ id: message.id, controller, turns: this.#turns(message, controller.signal) });
    this.#working ??= this.#work();
  }

  /** Tells that a module of this thread trapped in a callback, where no promise sees it. */
  trap(thrown: unknown): void {
    this.#runtime?.trap(thrown);
  }

  /** Cancels everything and frees the engine; resolves when its memory can be reused. */
  async dispose(): Promise<void> {
    this.#closed = true;
    for (const call of this.#queue.splice(0)) {
      call.controller.abort();
      void finish(call.turns);
    }
    this.#current?.controller.abort();
    this.#runtime?.end();
    await this.#working;
    await this.#gallery?.close();
    this.#runtime?.free();
    this.#pictures.clear();
  }

  /** Gives turns until there is no call left. */
  async #work(): Promise<void> {
    for (let call = this.#queue.shift(); call !== undefined; call = this.#queue.shift()) {
      this.#current = call;
      this.#sweep();
      await this.#turn(call);
      this.#current = undefined;
    }
    this.#sweep();
    this.#working = undefined;
  }

  async #turn(call: Call): Promise<void> {
    const { id, controller, turns } = call;
    try {
      controller.signal.throwIfAborted();
      const { done, value } = await turns.next();
      // Also when it was cancelled meanwhile: the page alone knows how to release what it holds now.
      if (done === true) return this.#post({ type: "done", id, value: value.value }, value.transfer);
      controller.signal.throwIfAborted();
      this.#queue.push(call);
    } catch (thrown) {
      const { code, message, image } = toBlipError(thrown);
      this.#post({ type: "failed", id, code, message, ...(image === undefined ? {} : { picture: image }) });
      await finish(turns);
    }
  }

  #abort(id: number): void {
    if (this.#current?.id === id) return this.#current.controller.abort();
    const index = this.#queue.findIndex((call) => call.id === id);
    const [call] = index < 0 ? [] : this.#queue.splice(index, 1);
    if (call === undefined) return;
    call.controller.abort();
    void finish(call.turns);
    this.#post({ type: "failed", id, code: "aborted", message: "the call was cancelled" });
  }

  #release(id: number): void {
    const picture = this.#pictures.get(id);
    if (picture === undefined) return;
    this.#pictures.delete(id);
    picture.released = true;
    this.#encoder.drop(picture);
    if (!this.busy) this.#sweep();
  }

  /** Frees pictures that nobody needs, while no call is in the engine. */
  #sweep(): void {
    const { engine, epoch } = this.#runtime ?? {};
    if (engine === undefined || epoch === undefined) return;
    try {
      this.#encoder.sweep(engine, epoch);
    } catch (thrown) {
      // The next call finds an engine that is lost, and another one.
      this.#runtime?.trap(thrown);
    }
  }

  async *#turns(message: CallMessage, signal: AbortSignal): AsyncGenerator<void, Value, void> {
    if (message.type === "create") return { value: await this.#create(message, signal) };
    const runtime = this.#runtime;
    if (runtime === undefined) throw new BlipError("internal", "a call came before the engine was created");
    if (message.type === "encode") return yield* this.#encode(message, runtime);
    if (message.type === "run") return yield* this.#run(message, runtime, signal);
    if (message.type === "gallery") return { value: yield* this.#galleryCall(message, runtime) };
    const json = await runtime.use(async (engine) => (message.type === "memory" ? engine.memory() : engine.selfTest()));
    return { value: JSON.parse(json) as unknown };
  }

  async #create({ id, create }: Message<"create">, signal: AbortSignal): Promise<unknown> {
    if (this.#runtime !== undefined) throw new BlipError("internal", "the engine was already created");
    const notify = (event: Extract<FromEngine, { type: "event" }>["event"]): void => this.#post({ type: "event", event });
    this.#runtime = new Runtime({
      create,
      startModule: this.#startModule,
      open: (signal, report) => openModels(create, this.#startModule, notify, signal, report),
      notify,
    });
    return this.#runtime.start((progress) => this.#post({ type: "progress", id, progress }), signal);
  }

  async *#encode({ images, options, video }: Message<"encode">, runtime: Runtime): AsyncGenerator<void, Value, void> {
    const pictures = video ? [new Picture(0, images, options, true)] : images.map((image, index) => new Picture(index, [image], options));
    const ids: number[] = [];
    try {
      while (!(await this.#encodeSome(runtime, pictures, pictures))) yield;
      for (const picture of pictures) {
        this.#pictures.set(this.#nextPicture, picture);
        ids.push(this.#nextPicture++);
      }
      return { value: ids };
    } finally {
      if (ids.length === 0) for (const picture of pictures) this.#encoder.drop(picture);
    }
  }

  async *#run(message: Message<"run">, runtime: Runtime, signal: AbortSignal): AsyncGenerator<void, Value, void> {
    const { id, request, options } = message;
    const own: Picture[] = [];
    const pictures = message.pictures.map((input, index) => this.#picture(index, input, options, own));
    const results: unknown[] = [];
    const floats: Float32Array[] = [];
    const json = JSON.stringify(request);
    const groups = grouped(request, pictures);
    let first = 0;
    try {
      for (const group of groups) {
        // What waits for its turn after these is encoded with them, as far as there is room.
        while (!(await this.#encodeSome(runtime, group, pictures.slice(first), json))) yield;
        const onEvent: OnEvent = (text, a, b) => {
          if (signal.aborted) return false;
          if (text !== undefined) this.#post({ type: "token", id, text, index: a, picture: first });
          else if (b > 0) this.#post({ type: "step", id, done: first + (a / b) * group.length, total: pictures.length });
          return true;
        };
        const answer = await runtime.use(async (engine) => {
          // Again, when the engine is another one since.
          while (!(await this.#encoder.encodeSome(engine, runtime.epoch, group, json))) signal.throwIfAborted();
          const handles = group.map(({ handle }) => handle!.value);
          return engine.run(json, Uint32Array.from(handles), onEvent);
        });
        collect(answer, results, floats);
        for (const [index, picture] of group.entries()) if (own.includes(picture)) tell(results[first + index], picture.ms);
        for (const picture of group) if (own.includes(picture)) this.#encoder.drop(picture);
        first += group.length;
        if (first < pictures.length) {
          this.#post({ type: "step", id, done: first, total: pictures.length });
          yield;
        }
      }
      return { value: { results, floats } satisfies TaskAnswer, transfer: floats.map(({ buffer }) => buffer as ArrayBuffer) };
    } finally {
      for (const picture of pictures) if (picture.released || own.includes(picture)) this.#encoder.drop(picture);
    }
  }

  /** Galleries have an engine of their own, which pages without one do not load. */
  async *#galleryCall({ op, args }: Message<"gallery">, runtime: Runtime): AsyncGenerator<void, unknown, void> {
    const { GalleryEngine } = await import("./gallery-engine.js");
    const gallery = (this.#gallery ??= new GalleryEngine());
    return yield* gallery.call((work) => runtime.use(work), op, args);
  }

  /** Encodes some of `pictures` and what else fits, `more`, for a request; whether all of `pictures` are. */
  async #encodeSome(runtime: Runtime, pictures: readonly Picture[], more: readonly Picture[], request?: string): Promise<boolean> {
    return runtime.use(async (engine) => {
      const isReady = (picture: Picture): boolean => picture.handle?.epoch === runtime.epoch;
      if (!pictures.every(isReady)) await this.#encoder.encodeSome(engine, runtime.epoch, more, request);
      return pictures.every(isReady);
    });
  }

  #picture(index: number, input: PictureInput, options: Message<"run">["options"], own: Picture[]): Picture {
    if (input.kind === "picture") {
      const picture = this.#pictures.get(input.picture);
      if (picture === undefined) throw new BlipError("bad-option", "this encoded image was disposed of");
      return picture;
    }
    const picture = new Picture(index, [input], options);
    own.push(picture);
    return picture;
  }
}

/**
 * Pictures that the engine is asked about together: all where they are one question; where it only reads texts or
 * tokens, as many as are encoded together, since no more of them should be held at a time; else one by one.
 */
function grouped(request: TaskRequest, pictures: readonly Picture[]): Picture[][] {
  const { task, head } = request as TaskRequest & { readonly head?: unknown };
  const size = task === "nlvr2" ? pictures.length : task === "embed" || (task === "classify" && head !== "itm") ? BATCH : 1;
  // A request may be about texts alone.
  if (pictures.length === 0) return size === 1 ? [] : [[]];
  return Array.from({ length: Math.ceil(pictures.length / size) }, (_, index) => pictures.slice(index * size, (index + 1) * size));
}

function collect([json, ...floats]: readonly [string, ...Float32Array[]], results: unknown[], all: Float32Array[]): void {
  results.push(...(JSON.parse(json) as { results: unknown[] }).results);
  all.push(...floats);
}

/** The engine was asked about a picture that was encoded already; what that took belongs to this call. */
function tell(result: unknown, encode: number): void {
  const timed = result as { ms?: { encode?: number } } | undefined;
  if (timed?.ms !== undefined) timed.ms.encode = encode;
}

/** Lets a call that will not go on put away what it holds. */
async function finish(turns: Call["turns"]): Promise<void> {
  await turns.return({ value: undefined }).catch(() => {});
}
