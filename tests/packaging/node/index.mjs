// Every entry point can be imported where there is no browser, and touches nothing of one.
const touched = [];
for (const name of ["fetch", "Worker", "navigator", "document", "caches", "indexedDB", "self", "window", "OffscreenCanvas"]) {
  const original = Object.getOwnPropertyDescriptor(globalThis, name)?.value;
  Object.defineProperty(globalThis, name, { configurable: true, get: () => (touched.push(name), original) });
}

const { Blip, BlipError, ERROR_CODES } = await import("blip-web");
const { pipeline } = await import("blip-web/compat");
const { useBlip } = await import("blip-web/react");
await import("blip-web/worker");
if (touched.length > 0) throw new Error(`importing touched ${touched.join(", ")}`);
if (typeof Blip.create !== "function" || typeof pipeline !== "function" || typeof useBlip !== "function") throw new Error("an export is missing");

// Without a browser an instance cannot be made, which is said and not waited for.
const failure = await Blip.create({ device: "cpu" }).then(
  () => undefined,
  (error) => error,
);
if (!(failure instanceof BlipError) || !ERROR_CODES.includes(failure.code)) {
  throw new Error("creating in Node.js did not fail with a code", { cause: failure });
}
console.log(`OK: ${failure.code}: ${failure.message}`);
