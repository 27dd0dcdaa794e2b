import { Blip } from "blip-web";
import wasmUrl from "blip-web/blip_bg.wasm";
import baselineWasmUrl from "blip-web/blip_baseline_bg.wasm";

async function caption() {
  const blip = await Blip.create({ device: "cpu", modelBase: "models/", wasmUrl, baselineWasmUrl });
  const { text } = await blip.caption("scene.png");
  await blip.dispose();
  return text;
}

caption().then(
  (text) => (document.title = `OK: ${text}`),
  (error) => (document.title = `ERROR: ${error.code} ${error.message}`),
);
