/** Folders that use the packed package: how they are made, and how programs run in them. */

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** Characters of a failed program's output. */
const LONGEST = 3000;
const HERE = dirname(fileURLToPath(import.meta.url));
const QUIET = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefer-offline"];

/** What every program gets: nothing that reports home or asks. */
export const ENVIRONMENT = { ...process.env, NEXT_TELEMETRY_DISABLED: "1", npm_config_update_notifier: "false", CI: "1" };

/** How many checks held, failed, and could not be made. */
export const counts = { passed: 0, failed: 0, skipped: 0 };

/** Runs a program; its output becomes the error when it fails. */
export function run(folder, program, ...args) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: folder, env: ENVIRONMENT });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (output += text));
    child.on("error", reject);
    child.on("exit", (code) => {
      if (code === 0) resolve(output);
      else reject(new Error(`${program} ${args.join(" ")} ended with ${code}:\n${output.trim().slice(0, LONGEST)}`));
    });
  });
}

/**
 * A copy of the folder `name` beside this file in `work`, with the packages of its lock file, which are
 * installed once, and the tarball, which is installed each time. Nothing when that needs a registry that
 * does not answer: this is said, and counted as skipped.
 */
export async function prepare(name, work, tarball) {
  const folder = join(work, name);
  mkdirSync(folder, { recursive: true });
  for (const entry of readdirSync(folder)) {
    if (entry !== "node_modules") rmSync(join(folder, entry), { recursive: true });
  }
  cpSync(join(HERE, name), folder, { recursive: true });
  // Vite knows a package by its version, which every tarball has.
  rmSync(join(folder, "node_modules/.vite"), { recursive: true, force: true });
  try {
    await install(folder);
    await run(folder, "npm", "install", "--no-save", "--no-package-lock", ...QUIET, resolve(tarball));
  } catch (error) {
    const unreachable = await run(folder, "npm", "ping", "--fetch-retries=0", "--loglevel=error").then(
      () => false,
      () => true,
    );
    if (!unreachable) throw error;
    counts.skipped++;
    console.log(`skipped: ${name}: the npm registry is unreachable and its packages were never installed`);
    return undefined;
  }
  return folder;
}

async function install(folder) {
  const lock = join(folder, "package-lock.json");
  if (!existsSync(lock)) return;
  const stamp = join(folder, "node_modules/.installed-lock");
  const digest = createHash("sha256").update(readFileSync(lock)).digest("hex");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === digest) return;
  await run(folder, "npm", "ci", ...QUIET);
  writeFileSync(stamp, digest);
}

/** Makes a check and says how it ended; whether it held. */
export async function judge(name, check) {
  const begun = performance.now();
  const failure = await check().then(
    () => undefined,
    (error) => error.message,
  );
  counts[failure === undefined ? "passed" : "failed"]++;
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  const reason = failure === undefined ? "" : `\n  ${failure.replaceAll("\n", "\n  ")}`;
  console.log(`${failure === undefined ? "ok    " : "FAILED"} ${name} (${seconds} s)${reason}`);
  return failure === undefined;
}

/** The last line, and the exit status. */
export function finish() {
  console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  const nothing = counts.passed + counts.skipped === 0;
  process.exitCode = counts.failed > 0 || nothing ? 1 : 0;
}
