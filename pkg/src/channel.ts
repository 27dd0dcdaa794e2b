/** The two ways to an engine: a worker of its own, or this very thread. */

import type { Channel, OpenChannel } from "./client.js";
import { retireModule, startModule } from "./engine.js";
import { EngineHost } from "./host.js";
import { BlipError, type FromEngine } from "./protocol.js";
import { watchForTraps } from "./traps.js";

/** A channel to a module worker; closing it terminates the worker, which frees its memory and its GPU device. */
export function workerChannel(createWorker: (() => Worker) | undefined): OpenChannel {
  return (receive) => {
    let worker: Worker;
    try {
      worker = createWorker?.() ?? new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "blip" });
    } catch (error) {
      const hint = "serve the package from the page's origin, or pass `createWorker` or `worker: false`";
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

/** A channel to an engine in this thread, which it blocks while it computes. */
export function inlineChannel(start = startModule): OpenChannel {
  return (receive): Channel => {
    const host = new EngineHost((message) => {
      if (message.type === "crashed") retireModule(message.message);
      receive(message);
    }, start);
    const stopWatching = watchForTraps(host);
    return {
      send: (message) => host.receive(message),
      close: async () => {
        await host.dispose();
        stopWatching();
      },
    };
  };
}
