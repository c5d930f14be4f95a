import { ArgumentError } from '../errors.js';
import type { MapRequest, WaitOptions } from './bus.js';

/** What every bus refuses before it asks the function: arguments that name nothing. */

const REGISTER_MAX = 2n ** 64n - 1n;

/** @throws ArgumentError unless 8 bytes at `offset` lie in the region */
export function checkOffset(offset: number, byteLength: number, region: string): void {
  if (!Number.isInteger(offset) || offset < 0 || offset + 8 > byteLength) {
    throw new ArgumentError(`there are no 8 bytes at offset ${offset} of the ${region}`, {
      hint: `the ${region} have ${byteLength} bytes`,
      fields: { offset, byteLength },
    });
  }
}

/** @throws ArgumentError unless the value has 64 bits */
export function checkRegisterValue(value: bigint): void {
  if (typeof value !== 'bigint' || value < 0n || value > REGISTER_MAX) {
    throw new ArgumentError(`a register cannot hold ${String(value)}`, { hint: 'give a bigint of 0 … 2^64 - 1', fields: { value } });
  }
}

/** @throws ArgumentError unless the value is a Write_Index below 2^53 (S-103) */
export function checkDoorbellValue(value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new ArgumentError(`a doorbell cannot be written with ${String(value)}`, {
      hint: 'give the Write_Index, a whole number below 2^53',
      fields: { value },
    });
  }
}

/** @throws ArgumentError unless the vector exists */
export function checkVector(vector: number, vectors: number): void {
  if (!Number.isInteger(vector) || vector < 0 || vector >= vectors) {
    throw new ArgumentError(`there is no interrupt vector ${vector}`, {
      hint: `this bus has vectors 0 … ${vectors - 1}`,
      fields: { vector },
    });
  }
}

/** Whole bytes from a whole address; NaN would compare with nothing and so name everything. @throws ArgumentError */
export function checkRange(iova: number, byteLength: number): void {
  if (Number.isSafeInteger(iova) && Number.isSafeInteger(byteLength) && iova >= 0 && byteLength >= 0) return;
  throw new ArgumentError(`${String(byteLength)} bytes at ${String(iova)} are no range of addresses`, {
    hint: 'give the DMA address and length that were mapped',
    fields: { iova, byteLength },
  });
}

/** @throws ArgumentError unless the options are an object, or left out */
export function checkOptions(options: unknown, what = 'options'): void {
  if (options === undefined || (typeof options === 'object' && options !== null)) return;
  throw new ArgumentError(`${what} cannot be ${String(options)}`, { hint: `${what} are an object, or left out` });
}

/** @throws ArgumentError unless it is a duration; Infinity is one */
export function checkDuration(ms: number | undefined, name = 'timeoutMs'): void {
  if (ms === undefined || (typeof ms === 'number' && ms >= 0)) return;
  throw new ArgumentError(`cannot wait for ${String(ms)} ms`, { hint: `${name} is 0 or more`, fields: { [name]: ms } });
}

/** @throws ArgumentError unless it is an AbortSignal, or left out */
export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal === undefined || (typeof signal === 'object' && typeof signal?.addEventListener === 'function' && 'aborted' in signal)) return;
  throw new ArgumentError('signal is no AbortSignal', { hint: 'pass controller.signal, or AbortSignal.timeout(ms)' });
}

/** A name that nobody knows is most likely a known one mistyped, and would be ignored. @throws ArgumentError */
export function checkNames(options: object | undefined, known: readonly string[], what = 'options'): void {
  for (const name in options) {
    if (known.includes(name)) continue;
    throw new ArgumentError(`${what} have no "${name}"`, { hint: `they are: ${known.join(', ')}`, fields: { option: name } });
  }
}

/** What bounds any kind of work: `{ timeoutMs, signal }`. @throws ArgumentError */
export function checkLimits(options: { timeoutMs?: number; signal?: AbortSignal } | undefined): void {
  if (options === undefined) return;
  checkOptions(options);
  checkDuration(options.timeoutMs);
  checkSignal(options.signal);
}

/** @throws ArgumentError unless it is a function */
export function checkCondition(condition: () => boolean): void {
  if (typeof condition === 'function') return;
  throw new ArgumentError(`cannot wait for ${String(condition)}`, { hint: 'give a function that says whether the wait is over' });
}

const MODES: readonly unknown[] = ['adaptive', 'polled', 'interrupt', undefined];

/** @throws ArgumentError unless the mode exists */
export function checkMode(mode: WaitOptions['mode']): void {
  if (MODES.includes(mode)) return;
  throw new ArgumentError(`there is no way to wait called ${String(mode)}`, { hint: 'it is adaptive, polled or interrupt' });
}

/** @throws ArgumentError for a timeout that is no duration, a vector or a mode that does not exist */
export function checkWait(condition: () => boolean, options: WaitOptions, vectors: number): void {
  checkCondition(condition);
  checkOptions(options);
  const { timeoutMs, signal, vector, mode } = options ?? {};
  checkDuration(timeoutMs ?? Number.NaN);
  checkSignal(signal);
  if (vector !== undefined) checkVector(vector, vectors);
  checkMode(mode);
}

/** @throws ArgumentError unless the calling thread can spin like that */
export function checkSpin(condition: () => boolean, timeoutMs: number): void {
  checkCondition(condition);
  checkDuration(timeoutMs ?? Number.NaN);
}

/** @throws ArgumentError unless there is a region to map */
export function checkMapRequest(request: MapRequest): void {
  if (typeof request?.region?.address === 'number' && typeof request.region.byteLength === 'number') return;
  throw new ArgumentError('there is no memory to map', { hint: 'give { iova, region, access }; regions come from the memory functions' });
}
