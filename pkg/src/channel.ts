/** The two ways to an engine: a worker of its own, or this very thread. */

import type { Channel, OpenChannel } from "./client.js";
import type { StartModule } from "./engine.js";
import { BlipError, type FromEngine } from "./protocol.js";

/** A channel to a module worker; closing it terminates the worker, which frees its memory and its GPU device. */
export function workerChannel(createWorker: () => Worker = packagedWorker): OpenChannel {
  return (receive) => {
    let worker: Worker;
    try {
      worker = createWorker();
    } catch (error) {
      const hint = "serve the package from the page's origin, or pass `worker: () => new Worker(…)` or `worker: false`";
      const message = error instanceof Error ? error.message : String(error);
      throw new BlipError("internal", `the worker cannot be started: ${message}; ${hint}`, { cause: error });
    }
    worker.onmessage = (event: MessageEvent<FromEngine>) => receive(event.data);
    worker.onmessageerror = () => receive({ type: "crashed", code: "internal", message: "a message of the engine cannot be read" });
    worker.onerror = (event) => {
      // A script that does not load gives an event without a message.
      const lost = event.message === undefined || event.message === "";
      const message = lost ? "the worker script, or a module it imports, did not load" : `the worker stopped: ${event.message}`;
      receive({ type: "crashed", code: lost ? "download-failed" : "internal", message });
    };
    return {
      send: (message, transfer) => worker.postMessage(message, transfer),
      close: () => worker.terminate(),
    };
  };
}

/**
 * The worker of this package; one of another origin, such as a CDN's, has to be imported by one of the page's.
 * Whether it is of another is found out first: the refusal may come as an event, long after the constructor.
 */
function packagedWorker(): Worker {
  const script = new URL(import.meta.url);
  if (isForeign(script)) return importingWorker(script);
  // Written out, because bundlers look for these very words.
  return new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "blip" });
}

/** Whether a script is of another origin than the page, as far as both are known. */
function isForeign({ protocol, origin }: URL): boolean {
  const page = (globalThis as { origin?: string }).origin;
  return page !== undefined && /^https?:$/.test(protocol) && origin !== page;
}

/** A worker of the page's origin that imports the one beside `script`. */
function importingWorker(script: URL): Worker {
  // Not written out: there is nothing to bundle where this is needed.
  const name = "worker.js";
  const url = new URL(`./${name}`, script);
  const source = new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" });
  const address = URL.createObjectURL(source);
  const options = { type: "module", name: "blip" } as const;
  const worker = new Worker(address, options);
  // The first message is sent when the scripts have run.
  worker.addEventListener("message", () => URL.revokeObjectURL(address), { once: true });
  return worker;
}

/** A channel to an engine in this thread, which it blocks while it computes. */
export function inlineChannel(start?: StartModule): OpenChannel {
  return (receive): Channel => {
    // Pages with a worker do not load it.
    const inline = import("./inline.js").then(({ openInline }) => openInline(receive, start));
    inline.catch((error: unknown) => {
      receive({ type: "crashed", code: "download-failed", message: `the engine's scripts did not load: ${String(error)}` });
    });
    const ignore = (): void => {};
    return {
      send: (message) => void inline.then((channel) => channel.send(message), ignore),
      close: () => inline.then((channel) => channel.close(), ignore),
    };
  };
}
