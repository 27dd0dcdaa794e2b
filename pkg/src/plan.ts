/** The models of an instance: opened one after the other, and loaded into one engine. */

import type { Engine, StartModule } from "./engine.js";
import type { ConversionModule } from "./hub.js";
import type { BlipInfo, ModelInfo } from "./info.js";
import { type Manifest, weightFiles } from "./manifest.js";
import { BlipError, type CreateMessage, type EngineEvent, type Progress } from "./protocol.js";
import type { ModelSource } from "./sources.js";
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

/** A source that an instance loads, and for which tasks; without `tasks`, for all that it has. */
export interface WantedSource {
  readonly source: ModelSource;
  readonly tasks?: readonly string[];
}

/**
 * The sources of a plan that `create` needs.
 *
 * @throws BlipError `task-unsupported` when there is none.
 */
export function wantedSources({ plan, tasks: wanted }: Pick<CreateMessage, "plan" | "tasks">): WantedSource[] {
  const sources = plan.sources.flatMap(({ source, tasks }): WantedSource[] => {
    const all = tasks?.filter((task) => wanted?.includes(task) ?? true) ?? wanted;
    if (all === undefined) return [{ source }];
    return tasks !== undefined && all.length === 0 ? [] : [{ source, tasks: all }];
  });
  if (sources.length === 0) throw new BlipError("task-unsupported", "no model of the plan is for the tasks that were asked for");
  return sources;
}

/** What a manifest says of a model that is loaded for `only`, or for everything. */
export function modelInfo(manifest: Manifest, only: readonly string[] | undefined): ModelInfo {
  const files = [...weightFiles(manifest), manifest.files.vocab];
  return {
    id: manifest.id,
    tasks: allTasks(manifest).filter((task) => only?.includes(task) ?? true),
    quantisation: manifest.quantisation,
    licence: manifest.licence,
    bytes: files.reduce((sum, file) => sum + file.bytes, 0),
  };
}

/**
 * Whether models have every task that was asked for.
 *
 * @throws BlipError `task-unsupported`.
 */
export function checkTasks(models: readonly Pick<ModelInfo, "id" | "tasks">[], wanted: readonly string[] | undefined): void {
  const tasks = [...new Set(models.flatMap(({ tasks }) => tasks))];
  const missing = wanted?.filter((task) => !tasks.includes(task)) ?? [];
  if (missing.length === 0) return;
  const names = models.map(({ id }) => id).join(" and ");
  const has = tasks.length === 0 ? "nothing" : tasks.join(", ");
  throw new BlipError("task-unsupported", `${names} was trained for ${has}, not for ${missing.join(", ")}`);
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
  const wanted = wantedSources(create);
  const progress = new TotalProgress(wanted.length, report);
  // Conversions have a module of their own, whose memory goes when they are done.
  const conversion = async (): Promise<ConversionModule> => (await startModule(create, signal)).Conversion;
  const prepared = wanted.map(({ tasks }, index): StoreOptions => {
    return {
      cache: create.cache,
      dtype: create.dtype,
      signal,
      onProgress: (step) => progress.report(index, step),
      onEvent: notify,
      conversion,
      ...(tasks === undefined ? {} : { tasks }),
    };
  });
  if (wanted.length > 1) {
    // One bar for all of them: its length is known before it begins.
    const sizes = await Promise.all(wanted.map(({ source }, index) => estimate(source, prepared[index]!)));
    sizes.forEach(({ downloadBytes, cachedBytes }, index) => progress.expect(index, downloadBytes + cachedBytes));
  }
  const models: RemoteModel[] = [];
  for (const [index, { source }] of wanted.entries()) models.push(await openModel(source, prepared[index]!));
  const info = describe(models, prepared);
  checkTasks(info.models, create.tasks);
  for (const [index, { manifest }] of models.entries()) checkTasks([{ id: manifest.id, tasks: allTasks(manifest) }], prepared[index]?.tasks);
  return {
    info,
    loadInto: async (engine, report, signal) => {
      for (const [index, model] of models.entries()) {
        engine.beginLoad(model.manifest.json);
        await model.pourWeights((piece) => engine.push(piece));
        signal.throwIfAborted();
        report({ phase: "load" });
        // A model that is there for one task must not answer for another, which may have a model of its own.
        const tasks = prepared[index]?.tasks;
        await engine.finishLoad(model.vocab, tasks && JSON.stringify(tasks));
        signal.throwIfAborted();
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
  const infos = models.map(({ manifest }, index) => modelInfo(manifest, options[index]?.tasks));
  const knows = models.find(({ manifest }) => manifest.knows !== undefined)?.manifest.knows;
  return {
    model: infos[0]!,
    models: infos,
    tasks: [...new Set(infos.flatMap(({ tasks }) => tasks))],
    ...(knows === undefined ? {} : { knows }),
  };
}

/** What the networks of a manifest were trained for. */
function allTasks({ tasks, networks }: Manifest): readonly string[] {
  return [...new Set([...tasks, ...networks.flatMap((network) => network.tasks)])];
}
