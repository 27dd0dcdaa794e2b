/** Keeping what was downloaded. */

/**
 * Asks the browser not to clear this origin's storage when space is short. Only a page can ask: a worker has
 * no such method. Firefox puts that question to its user, which is for the page to decide.
 */
export function askToKeep(): void {
  const { storage, userAgent = "" } = globalThis.navigator ?? {};
  if (userAgent.includes("Firefox") || typeof storage?.persist !== "function") return;
  storage.persist().catch(() => {});
}
