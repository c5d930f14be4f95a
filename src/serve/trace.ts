import { closeSync, openSync, writeSync } from 'node:fs';
import { SdxiError } from '../errors.js';
import { JsonTracer } from '../observe/trace-json.js';
import type { Tracer } from '../observe/tracer.js';

/** Lines are collected up to so many characters before they are written. */
const BUFFER_CHARS = 64 * 1024;

/** The trace of a served function, appended to a file that several functions may share: whole lines are written at once. */
export class ServedTrace {
  readonly events: JsonTracer;
  private readonly fd: number;
  private readonly onLost: (why: string) => void;
  private text = '';
  private lost = false;

  /** @param onLost the file cannot be written any more; the function goes on without a trace */
  constructor(path: string, name: string, onLost: (why: string) => void) {
    this.fd = openTrace(path);
    this.onLost = onLost;
    this.events = new JsonTracer({ name, clock: () => performance.now(), sink: (line) => this.take(line) });
  }

  get tracer(): Tracer {
    return this.events;
  }

  private take(line: string): void {
    if (this.lost) return;
    this.text += `${line}\n`;
    if (this.text.length >= BUFFER_CHARS) this.flush();
  }

  /** Whoever reads the file sees everything up to now. */
  flush(): void {
    if (this.text === '' || this.lost) return;
    const bytes = Buffer.from(this.text);
    this.text = '';
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.fd, bytes, at);
    } catch (error) {
      this.lost = true;
      this.onLost(error instanceof Error ? error.message : String(error));
    }
  }

  close(): void {
    this.flush();
    closeSync(this.fd);
  }
}

function openTrace(path: string): number {
  try {
    return openSync(path, 'a');
  } catch (cause) {
    throw new SdxiError('ERR_SDXI_SYSTEM', `the trace cannot be written to ${path}`, {
      cause,
      hint: 'name a file that you may write to, in a folder that exists',
      fields: { path },
    });
  }
}

/** Finds out before anything is started. @throws SdxiError ERR_SDXI_SYSTEM */
export function checkTrace(path: string): void {
  closeSync(openTrace(path));
}
