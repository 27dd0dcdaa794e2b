/** The models of an instance: opened one after the other, and loaded into one engine. */

import type { Engine, StartModule } from "./engine.js";
import type { ConversionModule } from "./hub.js";
import type { BlipInfo, ModelInfo } from "./info.js";
import { type Manifest, weightFiles } from "./manifest.js";
import { BlipError, type CreateMessage, type EngineEvent, type Progress } from "./protocol.js";
import type { PlannedSource } from "./sources.js";
import { estimate, openModel, type RemoteModel, type StoreOptions } from "./store.js";

/** Takes the steps of a start. */
export type Report = (progress: Progress) => void;

/** What the manifests say of an instance. */
export type PlanInfo = Pick<BlipInfo, "model" | "models" | "tasks" | "knows">;

/** Models that can be loaded, again and again. */
export interface OpenedModels {
  readonly info: PlanInfo;
  /** Streams every model into the engine. */
  loadInto(engine: Engine, report: Report, signal: AbortSignal): Promise<void>;
}

/**
 * Opens the models that `create` names.
 *
 * @throws BlipError `task-unsupported` when none of them was trained for a task that was asked for, before
 * any weights are downloaded; what `openModel` throws.
 */
export async function openModels(
  create: CreateMessage,
  startModule: StartModule,
  notify: (event: EngineEvent) => void,
  signal: AbortSignal,
  report: Report,
): Promise<OpenedModels> {
  const { sources } = create.plan;
  const progress = new TotalProgress(sources.length, report);
  // Conversions have a module of their own, whose memory goes when they are done.
  const conversion = async (): Promise<ConversionModule> => (await startModule(create, signal)).Conversion;
  const options = (planned: PlannedSource, index: number): StoreOptions => {
    const tasks = planned.tasks?.filter((task) => create.tasks?.includes(task) ?? true) ?? create.tasks;
    return {
      cache: create.cache,
      dtype: create.dtype,
      signal,
      onProgress: (step) => progress.report(index, step),
      onEvent: notify,
      conversion,
      ...(tasks === undefined ? {} : { tasks }),
    };
  };
  const wanted = sources.filter((planned) => planned.tasks?.some((task) => create.tasks?.includes(task) ?? true) ?? true);
  const prepared = wanted.map(options);
  if (wanted.length > 1) {
    // One bar for all of them: its length is known before it begins.
    const sizes = await Promise.all(wanted.map(({ source }, index) => estimate(source, prepared[index]!)));
    sizes.forEach(({ downloadBytes, cachedBytes }, index) => progress.expect(index, downloadBytes + cachedBytes));
  }
  const models: RemoteModel[] = [];
  for (const [index, { source }] of wanted.entries()) models.push(await openModel(source, prepared[index]!));
  const info = describe(models, prepared);
  const missing = create.tasks?.filter((task) => !info.tasks.includes(task)) ?? [];
  if (missing.length > 0) {
    const has = info.tasks.length === 0 ? "nothing" : info.tasks.join(", ");
    throw new BlipError("task-unsupported", `${names(models)} was trained for ${has}, not for ${missing.join(", ")}`);
  }
  return {
    info,
    loadInto: async (engine, report, signal) => {
      const keep: string[] = [];
      for (const [index, model] of models.entries()) {
        engine.beginLoad(model.manifest.json);
        await model.pourWeights((piece) => engine.push(piece));
        signal.throwIfAborted();
        report({ phase: "load" });
        await engine.finishLoad(model.vocab);
        signal.throwIfAborted();
        // A model that is there for one task must not answer for another.
        const tasks = prepared[index]?.tasks;
        if (tasks !== undefined) engine.limit(JSON.stringify(keep.concat(tasks)));
        keep.push(...(tasks ?? allTasks(model.manifest)));
      }
    },
  };
}

/** The bytes of several models as those of one. */
class TotalProgress {
  readonly #parts: { loaded: number; total: number }[];
  readonly #report: Report;

  constructor(count: number, report: Report) {
    this.#parts = Array.from({ length: count }, () => ({ loaded: 0, total: 0 }));
    this.#report = report;
  }

  /** Counts on so many bytes of a model that is not open yet. */
  expect(index: number, total: number): void {
    this.#parts[index] = { loaded: 0, total };
  }

  report(index: number, step: Progress): void {
    if (step.phase !== "download") return this.#report(step);
    this.#parts[index] = step;
    const sum = (name: "loaded" | "total"): number => this.#parts.reduce((sum, part) => sum + part[name], 0);
    this.#report({ ...step, loaded: sum("loaded"), total: sum("total") });
  }
}

function describe(models: readonly RemoteModel[], options: readonly StoreOptions[]): PlanInfo {
  const infos = models.map(({ manifest }, index): ModelInfo => {
    const files = [...weightFiles(manifest), manifest.files.vocab];
    const all = allTasks(manifest);
    const only = options[index]?.tasks;
    return {
      id: manifest.id,
      tasks: all.filter((task) => only?.includes(task) ?? true),
      quantisation: manifest.quantisation,
      licence: manifest.licence,
      bytes: files.reduce((sum, file) => sum + file.bytes, 0),
    };
  });
  const [model] = infos;
  if (model === undefined) throw new BlipError("task-unsupported", "no model of the plan is for the tasks that were asked for");
  const knows = models.find(({ manifest }) => manifest.knows !== undefined)?.manifest.knows;
  return {
    model,
    models: infos,
    tasks: [...new Set(infos.flatMap(({ tasks }) => tasks))],
    ...(knows === undefined ? {} : { knows }),
  };
}

/** What the networks of a manifest were trained for. */
function allTasks({ tasks, networks }: Manifest): readonly string[] {
  return [...new Set([...tasks, ...networks.flatMap((network) => network.tasks)])];
}

function names(models: readonly RemoteModel[]): string {
  return models.map(({ manifest }) => manifest.id).join(" and ");
}
