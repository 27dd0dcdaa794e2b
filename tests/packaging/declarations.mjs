/**
 * The declarations of the packed package, as a strict consumer's compiler reads them, and the code of its README.
 *
 *   node declarations.mjs TARBALL WORK TSC...      each TSC is a compiler to try
 *
 * `types/` is compiled without `skipLibCheck`, for bundlers and for Node.js; beside it every block of the
 * README that is marked `ts` or `tsx`, each as a module of its own. The last line counts.
 */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { finish, judge, prepare, run } from "./project.mjs";

const [tarball, work, ...compilers] = process.argv.slice(2);

/** Writes the README's blocks into files named after their lines; how many there were. */
function extract(readme, folder) {
  mkdirSync(folder, { recursive: true });
  let blocks = 0;
  for (const match of readme.matchAll(/^```(tsx?)\n(.*?)^```$/gms)) {
    const line = readme.slice(0, match.index).split("\n").length + 1;
    // The empty export makes it a module, so that blocks do not see each other.
    writeFileSync(join(folder, `line-${line}.${match[1]}`), `${match[2]}\nexport {};\n`);
    blocks++;
  }
  return blocks;
}

const folder = await prepare("types", work, tarball).catch((error) => judge("types: install", () => Promise.reject(error)));
if (folder) {
  const readme = readFileSync(join(folder, "node_modules/blip-web/README.md"), "utf8");
  await judge("the README has code", async () => {
    const blocks = extract(readme, join(folder, "readme"));
    if (blocks < 10) throw new Error(`only ${blocks} blocks are marked ts or tsx`);
  });
  for (const compiler of compilers) {
    const version = (await run(folder, resolve(compiler), "--version")).trim().split("\n").at(-1);
    for (const project of ["tsconfig.json", "tsconfig.nodenext.json"]) {
      await judge(`TypeScript ${version}, ${project}`, () => run(folder, resolve(compiler), "--project", project));
    }
  }
}
finish();
