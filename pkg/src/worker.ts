/** The worker: an engine host whose messages go to the page. Outside of a worker it is inert. */

import { startModule } from "./engine.js";
import { EngineHost } from "./host.js";
import type { FromEngine, ToEngine } from "./protocol.js";
import { watchForTraps } from "./traps.js";

/** What is used of `DedicatedWorkerGlobalScope`, which the DOM library does not declare. */
interface WorkerScope {
  postMessage(message: FromEngine, transfer: Transferable[]): void;
  addEventListener(type: "message", listener: (event: MessageEvent<ToEngine>) => void): void;
}

// Elsewhere, as on a server that imports everything, this module does nothing.
const { DedicatedWorkerGlobalScope: Scope } = globalThis as { DedicatedWorkerGlobalScope?: abstract new () => WorkerScope };
const scope: unknown = globalThis;
if (Scope !== undefined && scope instanceof Scope) {
  const host = new EngineHost((message, transfer = []) => scope.postMessage(message, transfer), startModule);
  watchForTraps(host);
  scope.addEventListener("message", (event) => host.receive(event.data));
}
