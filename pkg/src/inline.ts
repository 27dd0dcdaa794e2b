/** An engine in the calling thread. */

import { startModule, type StartModule } from "./engine.js";
import { EngineHost } from "./host.js";
import type { FromEngine, ToEngine } from "./protocol.js";
import { watchForTraps } from "./traps.js";

/** The engine's end of a channel without a worker in between. */
export interface InlineChannel {
  send(message: ToEngine): void;
  /** Resolves when the engine is freed. */
  close(): Promise<void>;
}

/** Makes an engine whose messages go to `receive`. */
export function openInline(receive: (message: FromEngine) => void, start: StartModule = startModule): InlineChannel {
  const host = new EngineHost(receive, start);
  const stopWatching = watchForTraps(host);
  return {
    send: (message) => host.receive(message),
    close: async () => {
      await host.dispose();
      stopWatching();
    },
  };
}
