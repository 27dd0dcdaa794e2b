// What a consumer writes, and what the types must say about it.

import { Blip, BlipError, type BlipErrorCode, type CaptionResult, type CreateOptions, type DtypeName, ERROR_CODES } from "blip-web";
import { pipeline } from "blip-web/compat";
import { useBlip, useCaption } from "blip-web/react";

/** Compiles only if both types are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Same<A, B>): void => {};

export async function tasks(file: File, canvas: HTMLCanvasElement): Promise<void> {
  const options: CreateOptions = { device: "cpu", dtype: { vision: "q8", text: "q4" } };
  const blip = await Blip.create(options);

  // One image in, one result out; a list in, a list out.
  const one = await blip.caption(file, { numBeams: 3 });
  const several = await blip.caption([file, canvas]);
  same<typeof one, CaptionResult>(true);
  same<typeof several, CaptionResult[]>(true);

  const stream = blip.captionStream(file);
  for await (const { text } of stream) text.toUpperCase();

  const answer = await blip.ask(file, "what colour is it?", { answers: ["red", "blue"] });
  answer.answers[0]?.probability?.toFixed(2);
  const matches = await blip.match(file, ["a cat", "a dog"]);
  matches[0]?.itm?.probability.toFixed(2);
  const labels = await blip.classify([file], ["cat", "dog"]);
  labels[0]?.[0]?.label.toUpperCase();

  // @ts-expect-error An option that does not exist.
  await blip.caption(file, { beams: 3 });
  // @ts-expect-error A device that does not exist.
  await Blip.create({ device: "npu" });
  // @ts-expect-error A precision that does not exist.
  await Blip.create({ dtype: "q5" });
  // @ts-expect-error Nor on one side.
  await Blip.create({ dtype: { vision: "fp16" } });
  const { dtype } = await Blip.availability({ dtype: "q4" });
  const names: readonly DtypeName[] = [dtype.vision, dtype.text];
  if (names.includes("f16")) return;
  // @ts-expect-error A question is needed.
  await blip.ask(file);

  await blip.dispose();
}

export function codes(error: unknown): BlipErrorCode | undefined {
  return error instanceof BlipError && ERROR_CODES.includes(error.code) ? error.code : undefined;
}

export async function migrant(): Promise<void> {
  const captioner = await pipeline("image-to-text", "Salesforce/blip-image-captioning-base", { dtype: "q8" });
  const one = await captioner("a.png", { max_new_tokens: 20 });
  one[0]?.generated_text.toUpperCase();
  const several = await captioner(["a.png", "b.png"]);
  several[0]?.[0]?.generated_text.toUpperCase();
  const classifier = await pipeline("zero-shot-image-classification");
  (await classifier("a.png", ["cat", "dog"]))[0]?.score.toFixed(2);
  const answerer = await pipeline("visual-question-answering");
  (await answerer("a.png", "what is it?"))[0]?.answer.toUpperCase();
  // @ts-expect-error A task of other models.
  await pipeline("translation");
}

export function Component(): string {
  const { blip, status, progress } = useBlip({ model: "tiny" });
  const caption = useCaption(blip, "a.png", { numBeams: 3 });
  return caption.status === "done" ? caption.text : `${status} ${progress?.phase ?? ""}`;
}
