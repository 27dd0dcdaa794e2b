import { build } from "esbuild";

// esbuild leaves `new URL("./worker.js", import.meta.url)` as it is, so the worker is an entry point that
// comes to stand beside the page's script.
await build({
  entryPoints: { main: "src/main.js", worker: "blip-web/worker" },
  bundle: true,
  format: "esm",
  outdir: "public",
  loader: { ".wasm": "file" },
});
