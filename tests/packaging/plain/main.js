// `?package=` is another origin's copy of the package, such as that of a CDN.
const address = new URLSearchParams(location.search).get("package") ?? "/node_modules/blip-web/dist/index.js";

async function caption() {
  const { Blip } = await import(address);
  const blip = await Blip.create({ device: "cpu" });
  const { text } = await blip.caption("scene.png");
  await blip.dispose();
  return text;
}

caption().then(
  (text) => (document.title = `OK: ${text}`),
  (error) => (document.title = `ERROR: ${error.code} ${error.message}`),
);
