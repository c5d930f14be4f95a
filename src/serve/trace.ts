import type { Tracer } from '../observe/tracer.js';

/** placeholder until trace-json is merged */
export class ServedTrace {
  readonly tracer: Tracer | undefined = undefined;
  constructor(_path: string, _name: string) {}
  map(_address: number, _byteLength: number, _access: number): void {}
  unmap(_address: number, _byteLength: number): void {}
  flr(): void {}
  flush(): void {}
  close(): void {}
}
