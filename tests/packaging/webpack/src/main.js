import { Blip } from "blip-web";

async function caption() {
  // The packaged model is looked for in `models/` beside the page.
  const blip = await Blip.create({ device: "cpu" });
  const { text } = await blip.caption("scene.png");
  await blip.dispose();
  return text;
}

caption().then(
  (text) => (document.title = `OK: ${text}`),
  (error) => (document.title = `ERROR: ${error.code} ${error.message}`),
);
