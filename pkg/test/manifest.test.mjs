import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { limitTasks, parseManifest, weightFiles } from "../dist/manifest.js";

/** What `blip convert --with` writes; `crate/tests/convert.rs` holds the two together. */
const json = readFileSync(new URL("several-networks.json", import.meta.url), "utf8");
const parse = (root) => parseManifest(JSON.stringify(root), "blip.json");

test("a manifest of several networks is read as the command line tool writes it", () => {
  const manifest = parseManifest(json, "blip.json");
  const written = JSON.parse(json);
  assert.deepEqual(manifest.tasks, ["caption"]);
  assert.deepEqual(manifest.networks.map(({ tasks }) => tasks), [["vqa"], ["itm", "itc"]]);
  const files = weightFiles(manifest);
  assert.deepEqual(files.map(({ path }) => path), ["model.safetensors", "model-vqa.safetensors", "model-itm-itc.safetensors"]);
  assert.deepEqual(files, [written.files.weights, ...written.networks.map(({ weights }) => weights)]);
  assert.ok(files.every(({ chunks }) => chunks.sha256.length > 0), "every file can be checked while it comes");
});

test("only the networks that are asked for are downloaded", () => {
  const limited = limitTasks(parseManifest(json, "blip.json"), ["itc"]);
  assert.deepEqual(weightFiles(limited).map(({ path }) => path), ["model.safetensors", "model-itm-itc.safetensors"]);
  assert.deepEqual(JSON.parse(limited.json).networks, [JSON.parse(json).networks[1]], "the engine reads the same");
});

test("a network with an image encoder of its own stays what it is", () => {
  const root = JSON.parse(json);
  root.networks[0].vision = true;
  const limited = limitTasks(parse(root), ["vqa"]);
  assert.equal(JSON.parse(limited.json).networks[0].vision, true);
});

test("a damaged entry of a network is named", () => {
  for (const [change, field] of [
    [(network) => delete network.tasks, "networks[1].tasks"],
    [(network) => (network.weights.path = "../x"), "networks[1].weights.path"],
    [(network) => network.weights.chunks.sha256.push("0".repeat(64)), "networks[1].weights.chunks"],
  ]) {
    const root = JSON.parse(json);
    change(root.networks[1]);
    assert.throws(() => parse(root), (error) => error.code === "bad-config" && error.message.includes(field));
  }
});
