// No `vite.config.js` is needed; the models are in `public/models/`.
import { Blip } from "blip-web";
import { pipeline } from "blip-web/compat";

const options = { device: "cpu", modelBase: "/models/" };

async function caption() {
  const blip = await Blip.create({ model: "tiny", ...options });
  const { text } = await blip.caption("/scene.png");
  await blip.dispose();

  const captioner = await pipeline("image-to-text", "tiny", options);
  const [{ generated_text }] = await captioner("/scene.png");
  await captioner.dispose();

  return generated_text === text ? text : `${text} (but the pipeline said ${generated_text})`;
}

document.title = await caption().then(
  (text) => `OK: ${text}`,
  (error) => `ERROR: ${error.code} ${error.message}`,
);
