import { resolve } from "node:path";

// Nothing here is for the package: webpack finds its worker and its modules by itself.
export default {
  mode: "production",
  entry: "./src/main.js",
  output: { path: resolve("public"), filename: "main.js" },
  performance: { hints: false },
};
