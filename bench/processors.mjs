/**
 * Who used the processors meanwhile: a timing beside which something else ran is thrown away.
 *
 * Linux says it in /proc. Elsewhere nothing is known, and every timing is kept.
 */

import { readFileSync, readdirSync } from "node:fs";

const TICKS_A_SECOND = 100;
const POLL_MS = 2000;

/** Seconds that all processors worked since the machine started, or nothing where that is unknown. */
function busySeconds() {
  try {
    const [, user, nice, system, , , irq, softirq, steal] = readFileSync("/proc/stat", "utf8").split("\n")[0].split(/\s+/).map(Number);
    return (user + nice + system + irq + softirq + steal) / TICKS_A_SECOND;
  } catch {
    return null;
  }
}

/** Parent and processor seconds of every process. */
function processes() {
  const table = new Map();
  for (const id of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const text = readFileSync(`/proc/${id}/stat`, "utf8");
      // The name in parentheses may hold anything, spaces and parentheses included.
      const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
      table.set(Number(id), { parent: Number(fields[1]), seconds: (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND });
    } catch {
      // It ended between the listing and the reading.
    }
  }
  return table;
}

/** Processor seconds of this process and everything below it: the browser with its children. */
function ownSeconds() {
  const table = processes();
  const isOwn = (id) => {
    while (id !== undefined && id !== process.pid) id = table.get(id)?.parent;
    return id !== undefined;
  };
  let sum = 0;
  for (const [id, { seconds }] of table) if (isOwn(id)) sum += seconds;
  return sum;
}

/** Starts watching; the returned function says how many processors others used since, or null. */
export function watchOthers() {
  const [busy, own, begun] = [busySeconds(), ownSecondsOrNull(), performance.now()];
  return () => {
    if (busy === null || own === null) return null;
    const seconds = (performance.now() - begun) / 1000;
    return Math.max(0, (busySeconds() - busy - (ownSecondsOrNull() - own)) / seconds);
  };
}

function ownSecondsOrNull() {
  try {
    return ownSeconds();
  } catch {
    return null;
  }
}

/** Waits until others use less than `limit` processors; false when that does not happen within `seconds`. */
export async function quiet(limit, seconds) {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    const others = watchOthers();
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if ((others() ?? 0) < limit) return true;
    if (performance.now() > end) return false;
  }
}
