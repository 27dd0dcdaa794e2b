/** What relative addresses are relative to. */

/** The page's address; in a worker that of its script, which is what `fetch` goes by there. */
export function baseAddress(): string {
  if (typeof document !== "undefined") return document.baseURI;
  const { href, origin } = (globalThis as { location?: Location }).location ?? {};
  if (href === undefined) return import.meta.url;
  if (!/^(blob|data):/.test(href)) return href;
  // Such a script is nowhere; the page that made it is.
  return origin === undefined || origin === "null" ? import.meta.url : `${origin}/`;
}
