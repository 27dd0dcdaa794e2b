// What the code of the README takes for granted: things that every page has, and what the blocks before made.

declare const blip: import("blip-web").Blip;
declare const gallery: import("blip-web").Gallery;
declare const file: File;
declare const files: FileList;
declare const image: ImageBitmap;
declare const first: Blob;
declare const second: Blob;
declare const canvas: HTMLCanvasElement;
declare const video: HTMLVideoElement;
declare const button: HTMLButtonElement;
declare const bar: HTMLProgressElement;
declare const controller: AbortController;
declare const signal: AbortSignal;
declare const thumbnails: HTMLElement;
declare function show(text: string): void;
